"""Train, val and test: how images get a split and keep it."""
