"""The diagonal LTI scan ``x_t = A_bar x_{t−1} + Bu_t``."""

from ssmith.ops.diagonal.dispatch import diagonal_scan

__all__ = ["diagonal_scan"]
