"""Prune, tune and ship state space models, with a receipt for every step."""
