"""A sound example, and how it is read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

Read = Callable[[Path], object]


@dataclass(frozen=True)
class Seed:
    """A sound example.

    Args:
        place: the file or directory.
        read: reads what lies at a place.
        only: names of the files in a directory that are damaged; all if none are named.
        below: a directory in it, outside of which nothing is damaged.
    """

    place: Path
    read: Read
    only: tuple[str, ...] = ()
    below: str = ""

    @property
    def files(self) -> list[str]:
        """What may be damaged, relative to the place."""
        if self.place.is_file():
            return [""]
        found = sorted(p.relative_to(self.place).as_posix() for p in self.place.rglob("*"))
        found = [name for name in found if (self.place / name).is_file()]
        found = [name for name in found if name.startswith(self.below)]
        return [name for name in found if not self.only or Path(name).name in self.only]
