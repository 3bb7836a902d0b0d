"""The selective scan of Mamba-1."""

from ssmith.ops.selective_scan.dispatch import selective_scan
from ssmith.ops.selective_scan.inputs import ScanInputs
from ssmith.ops.selective_scan.statistics import (
    ScanStatistics,
    StatisticsConfig,
    selective_scan_statistics,
)

__all__ = [
    "ScanInputs",
    "ScanStatistics",
    "StatisticsConfig",
    "selective_scan",
    "selective_scan_statistics",
]
