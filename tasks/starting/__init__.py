"""A start with one's own data: looked at, proposed, asked, and taken."""
