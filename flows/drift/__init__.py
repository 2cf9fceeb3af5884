"""The drift flow: a window of the prediction log beside the validation side of the model in use."""
