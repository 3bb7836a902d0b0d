"""What the details of some data say that whoever reads its numbers must know."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ssmith.core.layers import Finding

_NOTHING = ("", "nothing")


def told_of(details: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return how data was read where that could have been meant otherwise, as findings.

    Args:
        details: of data, as it describes itself.

    Returns:
        Values that look like something else than they were taken for, what stands before each row
        of text, keys that were passed over, and how a table was separated.
    """
    found = [("suspicious-values", item) for item in details.get("suspicions", ())]
    begin = details.get("before_each_row", "")
    if begin not in _NOTHING:
        message = f"each row begins with {begin}, as the model's own tokenizer begins a text"
        found.append(("begin", f"{message}; it is read and never scored"))
    ignored = details.get("keys_ignored", {})
    if ignored:
        listed = ", ".join(f"{name} ({count})" for name, count in ignored.items())
        message = f"keys of the data that say nothing here were passed over: {listed}"
        found.append(("keys-ignored", f"{message}; rename those that were meant"))
    separator = details.get("separated_by")
    if separator:
        point = details.get("decimal_point")
        message = f"the table was read with {separator!r} between cells"
        found.append(("table", f"{message}, decimal point {point!r}"))
    return [Finding(layer="", kind=kind, message=message).as_dict() for kind, message in found]
