"""Canary: many requests at once, each of which must be answered as if it were alone."""
