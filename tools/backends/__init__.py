"""Servers as a team has them, on this machine alone: PostgreSQL, an S3 API, MLflow, Prefect and two workers."""
