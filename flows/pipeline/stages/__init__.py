"""One stage in a run: its Prefect task, its process, its place on a GPU, and the page of the run."""
