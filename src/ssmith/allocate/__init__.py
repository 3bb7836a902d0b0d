"""Allocation: scores and a budget in, a plan out."""

from ssmith.allocate.decide import allocate

__all__ = ["allocate"]
