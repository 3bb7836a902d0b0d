"""Whole jobs made of the spine's steps: train, measure, compare, prune, pilot."""
