"""The state space dual form: Mamba-2's scan, one decay per head."""

from ssmith.ops.ssd.chunked import ssd_chunked
from ssmith.ops.ssd.inputs import SSDInputs
from ssmith.ops.ssd.reference import ssd_reference

__all__ = ["SSDInputs", "ssd_chunked", "ssd_reference"]
