"""The line of a model's versions: a log that only grows, what is live, and what may go live."""
