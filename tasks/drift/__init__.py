"""Drift in a workspace: parameters, the validation side of the model in use, and a window of predictions beside it."""
