"""What was tried, as an entry in the line of the version that it was tried on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ssmith.core.errors import InputError
from ssmith.core.receipt import Receipt
from ssmith.release.line import Line
from ssmith.release.log import Entry
from ssmith.release.version import Version

Keep = Callable[[Receipt], None]
"""What keeps a receipt before the line knows of it.

The entry comes last: where it is missing, the same command can be given again, and what was seen
once stands in the line once.
"""


def nowhere(_: Receipt) -> None:
    """Keep nothing."""


def version_of(line: Line, tensors: str, name: str) -> Version:
    """Return the newest version of a line that holds a model; raises `InputError` without one.

    ``tensors`` is the digest of the model, ``name`` what users call it.
    """
    found = [version for version in line.versions() if version.tensors == tensors]
    if not found:
        raise InputError(
            f"{name} is no version of {line.path}",
            next_step=f"add it first: `ssmith release add {line.path} {name}`",
        )
    return found[-1]


def record(
    place: str | Path,
    action: str,
    *,
    tensors: str,
    name: str,
    receipt: Mapping[str, Any],
    reason: str,
    details: Mapping[str, Any],
) -> Entry:
    """Write what was tried into a line: of which model, and in details what a policy asks for."""
    line = Line.open(place)
    receipts: Sequence[Mapping[str, Any]] = (receipt,)
    return line.record(
        action,
        version=version_of(line, tensors, name),
        receipts=receipts,
        reason=reason,
        details=details,
    )


def refuse_unknown(place: str | Path | None, tensors: str, name: str) -> None:
    """Raise before long work if its result could not be recorded in the line of a place."""
    if place is not None:
        version_of(Line.open(place), tensors, name)
