"""DVC and git: the raw data, the stages, what DVC's cache keeps, and snapshots of runs."""
