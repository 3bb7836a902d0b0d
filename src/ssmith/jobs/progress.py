"""How a long job says how far it is; who listens decides what to show."""

from __future__ import annotations

from typing import Protocol, runtime_checkable


@runtime_checkable
class Progress(Protocol):
    """Listener to a long job."""

    def __call__(self, stage: str, done: int, total: int, note: str = "") -> None:
        """Be told that ``done`` of ``total`` parts of a stage are finished."""


def silent(stage: str, done: int, total: int, note: str = "") -> None:
    """Ignore progress."""
