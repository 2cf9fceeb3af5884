"""What is wrong, or probably wrong, with annotations and their images."""
