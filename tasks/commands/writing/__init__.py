"""What writes ``params.yaml``: single values, a schema, assignments of the command line."""
