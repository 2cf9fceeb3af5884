"""Exports by Ultralytics, and what runs them."""
