"""How a long job says how far it is; who listens decides what to show."""

from __future__ import annotations

from typing import Protocol, runtime_checkable


@runtime_checkable
class Progress(Protocol):
    """Listener to a long job."""

    def __call__(self, stage: str, done: float, total: int, note: str = "") -> None:
        """Be told that ``done`` of ``total`` parts of a stage are finished; parts may be begun."""


def silent(stage: str, done: float, total: int, note: str = "") -> None:
    """Ignore progress."""


def part_of(progress: Progress, outer: str, finished: int, parts: int) -> Progress:
    """Return a listener to one part of a stage, whose progress moves the stage on.

    That the part is finished is left to who counts the parts.
    """
    furthest = 0.0

    def told(stage: str, done: float, total: int, note: str = "") -> None:
        nonlocal furthest
        furthest = max(furthest, done / total if done < total else 0.0)
        progress(outer, finished + furthest, parts, f"{stage}, {note}" if note else stage)

    return told
