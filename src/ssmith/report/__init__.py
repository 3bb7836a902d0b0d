"""Receipts → plots and one HTML page that works offline and on paper."""

from ssmith.report.index import write_index
from ssmith.report.page import write_report

__all__ = ["write_index", "write_report"]
