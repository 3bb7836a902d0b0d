"""What data in splits has in common, whatever its parts are."""

from __future__ import annotations

from collections.abc import Mapping, Sized
from typing import Any, TypeVar

from ssmith.core.errors import DataError, InputError

Part = TypeVar("Part", bound=Sized)


def part_named(splits: Mapping[str, Part], name: str, *, data: str) -> Part:
    """Return one split, which holds something."""
    if name not in splits:
        raise InputError(f"split {name!r}", allowed=", ".join(splits))
    if not len(splits[name]):
        raise DataError(f"split {name!r} of {data} is empty")
    return splits[name]


def data_section(
    name: str,
    splits: Mapping[str, Sized],
    *,
    sha256: str,
    source: str,
    details: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the data section of a receipt."""
    return {
        "name": name,
        "sha256": sha256,
        "source": source,
        "counts": {part: len(item) for part, item in splits.items()},
        "details": dict(details),
    }
