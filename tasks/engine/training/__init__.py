"""Training by Ultralytics."""
