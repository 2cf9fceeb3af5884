"""Which version an alias names: every move with who and why, one at a time, and approvals."""
