"""The retraining flow: whether to train anew, the training, the gate, and what became of the model in use."""
