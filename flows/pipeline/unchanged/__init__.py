"""A run that has nothing to do: its answer before Prefect is imported, and its record there afterwards."""
