"""The files of a workspace: parameters, dataset, models, and how a stage program reads and replaces them."""
