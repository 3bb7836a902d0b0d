"""Measure two models on the same data: quality, speed, memory, parity, and a verdict."""
