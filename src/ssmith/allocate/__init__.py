"""Allocation: scores and a budget in, a plan out."""

from ssmith.allocate.decide import allocate
from ssmith.allocate.measured import by_measured_loss

__all__ = ["allocate", "by_measured_loss"]
