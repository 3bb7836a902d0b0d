"""What the details of some data say that whoever reads its numbers must know."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ssmith.core.findings import Finding

_SHOWN = 4
_NOTHING = ("", "nothing")


def told_of(details: Mapping[str, Any]) -> list[Finding]:
    """Return how data was read where that could have been meant otherwise, as findings.

    Values that look like something else than they were taken for, what stands before each row of
    text, keys that were passed over, how a table was separated, and the unit of errors.
    """
    found = [("suspicious-values", item) for item in details.get("suspicions", ())]
    begin = details.get("before_each_row", "")
    if begin not in _NOTHING:
        begun = f"each row begins with {begin}, as the model's own tokenizer begins a text; "
        found.append(("begin", f"{begun}it is read and never scored"))
    ignored = details.get("keys_ignored", {})
    if ignored:
        keys = ", ".join(f"{name} ({count})" for name, count in ignored.items())
        passed = f"keys of the data that say nothing here were passed over: {keys}; "
        found.append(("keys-ignored", f"{passed}rename those that were meant"))
    separator = details.get("separated_by")
    if separator:
        read = f"the table was read with {separator!r} between cells, decimal point "
        found.append(("table", f"{read}{details.get('decimal_point') or '.'!r}"))
    scaled = {
        name: std for name, std in details.get("scaling", {}).get("targets", {}).items() if std != 1
    }
    if scaled:
        shown = ", ".join(f"{name} {std:.4g}" for name, std in list(scaled.items())[:_SHOWN])
        more = ", …" if len(scaled) > _SHOWN else ""
        measured = f"errors are measured in standard deviations of the targets ({shown}{more}); "
        found.append(("scaled-targets", f"{measured}a tolerance that is absolute is read so too"))
    return [Finding(layer="", kind=kind, message=message) for kind, message in found]
