"""Labels of other tools on their way in: read, their images found, and their splits kept."""
