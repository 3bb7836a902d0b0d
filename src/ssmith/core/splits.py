"""What data in splits has in common, whatever its parts are."""

from __future__ import annotations

from collections.abc import Sized
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from ssmith.core.errors import DataError, InputError
from ssmith.core.sections import DataSection

Part = TypeVar("Part", bound=Sized)


@dataclass(frozen=True, kw_only=True)
class InSplits(Generic[Part]):
    """Data in splits.

    Args:
        name: what users call it.
        splits: by name.
        sha256: digest over all of it, so that a receipt can name the very data.
        source: where it comes from, in words.
        details: how it was read and split, JSON-ready.
    """

    name: str
    splits: dict[str, Part]
    sha256: str = ""
    source: str = ""
    details: dict[str, Any] = field(default_factory=dict)

    def split(self, name: str) -> Part:
        """Return one split, which holds something."""
        if name not in self.splits:
            raise InputError(f"split {name!r}", allowed=", ".join(self.splits))
        if not len(self.splits[name]):
            raise DataError(f"split {name!r} of {self.name} is empty")
        return self.splits[name]

    def describe(self) -> DataSection:
        """Return the data section of a receipt."""
        return DataSection(
            name=self.name,
            sha256=self.sha256,
            source=self.source,
            counts={part: len(item) for part, item in self.splits.items()},
            details=self.details,
        )
