"""Proof that exported models say what the trained one says, and how long they take."""
