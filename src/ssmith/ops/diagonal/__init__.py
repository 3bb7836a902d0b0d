"""The diagonal LTI scan ``x_t = A_bar x_{t−1} + Bu_t``, and that of an A_bar that varies."""

from ssmith.ops.diagonal.dispatch import diagonal_scan
from ssmith.ops.diagonal.varied import varied_scan

__all__ = ["diagonal_scan", "varied_scan"]
