"""The state space dual form: Mamba-2's scan, one decay per head."""

from ssmith.ops.ssd.dispatch import ssd
from ssmith.ops.ssd.inputs import SSDInputs

__all__ = ["SSDInputs", "ssd"]
