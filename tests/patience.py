"""How long a test waits for what it started."""

PATIENCE = 240.0
"""Seconds until something that should have happened is taken not to; no measure of how fast anything is."""
