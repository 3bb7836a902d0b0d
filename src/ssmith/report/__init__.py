"""Receipts → plots and one HTML page that works offline and on paper."""

from ssmith.report.index import write_index
from ssmith.report.page import write_report
from ssmith.report.template import check_extras

__all__ = ["check_extras", "write_index", "write_report"]
