"""Models in use: which there are and which is in use, predictions with them, and serving."""
