"""When to train anew, and which model may take the place of the one in use."""
