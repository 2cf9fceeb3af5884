"""Prefect's server and its schedules."""
