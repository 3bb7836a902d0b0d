"""Careful reading of a receipt: what is absent or not finite is None, never an exception."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

# XML and HTML have no place for control characters, UTF-8 none for lone surrogates.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One quantity before and after.

    Args:
        before: value of the unpruned model.
        after: value of the pruned model.
    """

    before: float
    after: float

    @property
    def ratio(self) -> float | None:
        """After divided by before, or None where that has no meaning."""
        return self.after / self.before if self.before > 0 else None


def find(section: Any, *keys: str) -> Any:
    """Follow ``keys`` through nested dicts; None where one is missing."""
    for key in keys:
        if not isinstance(section, dict):
            return None
        section = section.get(key)
    return section


def number(section: Any, *keys: str) -> float | None:
    """Return a finite real number, or None."""
    value = find(section, *keys)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def flag(section: Any, *keys: str) -> bool | None:
    """Return True or False, or None where neither stands."""
    value = find(section, *keys)
    return value if isinstance(value, bool) else None


def mapping(section: Any, *keys: str) -> dict[str, Any]:
    """Return a dict, empty if there is none."""
    value = find(section, *keys)
    return value if isinstance(value, dict) else {}


def items(section: Any, *keys: str) -> list[Any]:
    """Return a list, empty if there is none."""
    value = find(section, *keys)
    return list(value) if isinstance(value, list | tuple) else []


def text(section: Any, *keys: str) -> str:
    """Return a printable string, empty if there is none; the items of a list are joined."""
    value = find(section, *keys)
    if isinstance(value, list | tuple):
        return ", ".join(printable(item) for item in value)
    return "" if value is None else printable(value)


def pair(section: Any, *keys: str) -> Pair | None:
    """Return ``{before, after}`` as numbers, or None unless both were measured."""
    before, after = number(section, *keys, "before"), number(section, *keys, "after")
    if before is None or after is None:
        return None
    return Pair(before=before, after=after)


def printable(value: Any) -> str:
    """Return ``value`` as text that any XML or UTF-8 reader accepts."""
    return _UNPRINTABLE.sub("\ufffd", str(value))


def shorten(value: Any, limit: int) -> str:
    """Return one line of at most ``limit`` characters; the middle gives way."""
    line = " ".join(printable(value).split())
    if len(line) <= limit:
        return line
    tail = (limit - 1) // 2
    return f"{line[: limit - 1 - tail]}…{line[len(line) - tail :]}"
