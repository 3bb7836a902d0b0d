"""Files of every kind that can be read, damaged in every way, and what the readers say to it."""
