"""The commands that work on annotations, beside the stages."""
