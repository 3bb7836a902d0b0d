"""How far a long command is, on stderr: bars on a terminal, a few plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ssmith.core.progress import Progress

_SOON, _PAUSE = 5.0, 30.0
_WORTH = 10.0
"""Seconds that must be left for a first line: short work stays silent."""
_SHARE = 20
"""With the hours, lines become rarer: one for each twentieth more of the time."""
_START, _PACE = 1.0, 3.0
"""Seconds in which a stage tells what it found finished, and that a pace must have been seen."""


@contextmanager
def bars(console: Any, clean: Callable[[object], str]) -> Iterator[Progress]:
    """Yield a listener that draws one bar per stage."""
    from rich import progress

    drawn = progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(bar_width=24),
        progress.MofNCompleteColumn(),
        progress.TimeRemainingColumn(),
        progress.TextColumn("{task.fields[note]}", markup=False),
        console=console,
    )
    tasks: dict[str, progress.TaskID] = {}

    def told(stage: str, done: float, total: int, note: str = "") -> None:
        if stage not in tasks:
            tasks[stage] = drawn.add_task(stage, total=total, note="")
        elif done < drawn.tasks[tasks[stage]].completed:
            drawn.reset(tasks[stage])
        drawn.update(tasks[stage], completed=done, total=total, note=clean(note))

    with drawn:
        yield told


class Lines:
    """A listener for logs: an estimate once a few seconds have shown the pace, then rare lines.

    Work that is done within seconds leaves no line.

    Args:
        write: takes one line.
        clock: returns seconds.
    """

    def __init__(
        self, write: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._write, self._clock = write, clock
        self._opened = clock()
        self._due = self._opened + _SOON
        self._stage, self._done = "", 0.0
        self._began, self._pace_from = self._opened, (self._opened, 0.0)
        self._shown = False

    def __call__(self, stage: str, done: float, total: int, note: str = "") -> None:
        """Be told that ``done`` of ``total`` parts of a stage are finished."""
        now = self._clock()
        if stage != self._stage or done < self._done:
            self._stage, self._began, self._shown = stage, now, False
        if now - self._began < _START:
            # What an earlier run finished is told at once, and says nothing about the pace.
            self._pace_from = (now, done)
        self._done = done
        if done >= total:
            if self._shown:
                self._write(f"{stage}: done")
            return
        left = self._left(now, total)
        short = now - self._opened < _PAUSE if left is None else left < _WORTH
        if now < self._due or (left is None and done < 1) or (short and not self._shown):
            return
        about = "" if left is None else f", about {_duration(left)} to go"
        self._write(f"{stage}: {int(done)} of {total}{about}{f' ({note})' if note else ''}")
        self._shown = True
        self._due = now + max(_PAUSE, (now - self._opened) / _SHARE)

    def _left(self, now: float, total: int) -> float | None:
        """Return the seconds the rest of the stage takes at its pace so far; None if unknown."""
        since, done = self._pace_from
        if self._done <= done or now - since < _PACE:
            return None
        return (now - since) / (self._done - done) * (total - self._done)


def _duration(seconds: float) -> str:
    """Return a duration as people say it: 40 s, 4 min, 2.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
