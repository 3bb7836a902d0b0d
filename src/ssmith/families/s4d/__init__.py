"""S4D: one SISO diagonal state space per channel (arXiv 2206.11893)."""

from ssmith.families.s4d.layer import S4DLayer

__all__ = ["S4DLayer"]
