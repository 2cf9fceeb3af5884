"""The commands init and use: a start with one's own data, in a terminal and from scripts."""
