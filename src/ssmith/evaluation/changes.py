"""Measured changes of size, memory and time, and how they are put into words."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from ssmith.core.errors import InputError
from ssmith.core.times import Times
from ssmith.evaluation.memory import Memory
from ssmith.evaluation.speed import Speed
from ssmith.evaluation.timing import Timing

Kind = Literal["size", "memory", "time"]
# Keeps 0.29 · 100 from being cut to 28.
_ROUNDING = 1e-9


@dataclass(frozen=True, kw_only=True)
class Change:
    """One measured quantity before and after; less is better.

    Args:
        kind: size, memory or time.
        name: as it stands in the headline, e.g. ``"file"``.
        before: > 0.
        after: ≥ 0, in the same unit.
        minima: least times measured, (before, after), of a time; None if only medians are known.
        whole: whether it concerns the whole model, so that it counts as a gain.
        sure: whether it is no noise; only of such times anything is said or decided.
    """

    kind: Kind
    name: str
    before: float | int
    after: float | int
    minima: tuple[float, float] | None = None
    whole: bool = True
    sure: bool = True

    def __post_init__(self) -> None:
        """Check that the change has a meaning."""
        numbers = [self.before, self.after, *(self.minima or ())]
        if not all(math.isfinite(item) and item >= 0 for item in numbers) or self.before == 0:
            raise InputError(
                f"{self.name}: {self.before} before, {self.after} after",
                allowed="finite numbers, above 0 before",
            )

    @property
    def fall(self) -> float:
        """Fraction saved; negative if it rose; of a time, what `Times` counts."""
        if self.kind != "time":
            return 1 - self.after / self.before
        return 1 - Times(medians=(self.before, self.after), least=self.minima).ratio

    @property
    def text(self) -> str:
        """The change in words; rounded towards no change."""
        fall = self.fall
        if self.kind == "time":
            ratio = 1 / (1 - fall) if fall >= 0 else 1 - fall
            digits = 1 if ratio >= 2 else 2
            cut = math.floor(ratio * 10**digits + _ROUNDING) / 10**digits
            if cut == 1:
                return f"{self.name} as fast as before"
            return f"{self.name} {cut:.{digits}f}× {'faster' if fall >= 0 else 'slower'}"
        if self.after == self.before:
            return f"{self.name} as before"
        word = "smaller" if self.kind == "size" else "lower"
        opposite = "larger" if self.kind == "size" else "higher"
        return f"{self.name} {percent(abs(fall))} {word if fall >= 0 else opposite}"


def percent(fraction: float) -> str:
    """Return a fraction ≥ 0 in percent, cut and never rounded up; below one with a digit."""
    whole = math.floor(fraction * 100 + _ROUNDING)
    tenths = math.floor(fraction * 1000 + _ROUNDING) / 10
    return f"{tenths:g} %" if whole == 0 and tenths else f"{whole} %"


def _timed(name: str, timing: Timing, *, whole: bool = True) -> Change:
    first, second = timing.medians
    return Change(
        kind="time", name=name, before=first, after=second, minima=timing.minima, whole=whole,
        sure=timing.sure,
    )  # fmt: skip


def collect_changes(
    *, speed: Speed | None, memory: Memory | None, file_bytes: tuple[int, int] | None
) -> tuple[Change, ...]:
    """Gather what was measured, in the order in which the headline names equals.

    The state space part alone is told but does not count as a gain: it falls with every cut,
    whether or not the model as a whole profits.
    """
    found: list[Change] = []
    if file_bytes is not None:
        found.append(Change(kind="size", name="file", before=file_bytes[0], after=file_bytes[1]))
    if memory is not None:
        first, second = memory.peak_forward
        found.append(
            Change(kind="memory", name="peak memory of a batch", before=first, after=second)
        )
        if memory.state is not None and memory.state[0]:
            first, second = memory.state
            found.append(
                Change(kind="memory", name="state per sequence", before=first, after=second)
            )
    if speed is not None:
        found.append(_timed("batch", speed.per_batch))
        if speed.per_step is not None:
            found.append(_timed("step", speed.per_step))
        if speed.state_space_per_batch is not None:
            found.append(_timed("state space part", speed.state_space_per_batch, whole=False))
    return tuple(found)
