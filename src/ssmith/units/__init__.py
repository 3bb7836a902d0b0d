"""What can be cut: a table of units; where each lives is said by the families."""

from ssmith.units.table import UNITS, Unit, unit_named

__all__ = ["UNITS", "Unit", "unit_named"]
