"""Careful reading of JSON: what is absent or not finite is None, never an exception."""

from __future__ import annotations

import math
import re
from typing import Any

# XML and HTML have no place for control characters, UTF-8 none for lone surrogates.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


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
