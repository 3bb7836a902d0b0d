"""The selective scan of Mamba-1."""

from ssmith.ops.selective_scan.dispatch import selective_scan
from ssmith.ops.selective_scan.inputs import ScanInputs

__all__ = ["ScanInputs", "selective_scan"]
