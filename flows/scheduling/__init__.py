"""Schedules: when a run is due, the process that starts them, and what sets one off."""
