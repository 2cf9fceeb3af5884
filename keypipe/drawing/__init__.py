"""Skeletons, boxes and text drawn on pictures."""
