"""Zamba's mixer: Mamba's scan, by head."""
