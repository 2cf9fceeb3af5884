"""A registered model that is served by its alias: found, fetched, checked, and followed where the alias goes."""
