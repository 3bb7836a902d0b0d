"""Mamba-2 and the mixers that compute as it does."""
