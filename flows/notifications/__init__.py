"""How people are told what a retraining came to."""
