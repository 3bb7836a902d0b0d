"""S5: one MIMO diagonal state space per layer (arXiv 2208.04933)."""

from ssmith.families.s5.layer import S5Layer

__all__ = ["S5Layer"]
