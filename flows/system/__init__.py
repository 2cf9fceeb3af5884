"""Processes, small state files and progress bars."""
