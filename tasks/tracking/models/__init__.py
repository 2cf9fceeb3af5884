"""Models in MLflow's registry: versions and aliases, and the package that each one is."""
