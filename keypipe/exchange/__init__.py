"""Labels of other tools, read into one neutral model."""
