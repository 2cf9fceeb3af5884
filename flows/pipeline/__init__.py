"""The training flow: what has to run, the task that runs a stage, and what became of it."""
