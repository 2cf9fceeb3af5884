"""A prediction server over HTTP."""
