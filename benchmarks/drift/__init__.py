"""Drift on the demo: false alarms, alarms by strength, and estimated against true closeness."""
