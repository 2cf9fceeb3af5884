"""Orchestration: the flows that chain the stages, their schedule, and the command line."""
