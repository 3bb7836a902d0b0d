"""Two runs timed in turns, once their times have settled."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from statistics import median, quantiles

from ssmith.core.errors import InputError
from ssmith.core.sections import Pair, Samples, Timed, WarmUp
from ssmith.core.times import Times

Run = Callable[[], object]
Sample = Callable[[int], float]
_SHORTEST_SAMPLE = 1e-3
_MOST_LOOPS = 10_000
SETTLED = 0.2
"""Two samples in a row that differ by less than this share of the shorter one are settled."""
_LEAST_ROUNDS, _MOST_ROUNDS = 3, 20
_SHARE = 0.5
"""Of the time there is, what warming up may take besides."""


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Two runs timed in turns: seconds per run of each sample, with so many loops behind each."""

    before: tuple[float, ...]
    after: tuple[float, ...]
    loops: int
    warm_up: WarmUp | None = None

    @property
    def medians(self) -> tuple[float, float]:
        """Median seconds per run, (before, after)."""
        return median(self.before), median(self.after)

    @property
    def minima(self) -> tuple[float, float]:
        """Least seconds per run, (before, after): the time with the least disturbance."""
        return min(self.before), min(self.after)

    @property
    def times(self) -> Times:
        """What may be said of the change: see `Times`."""
        return Times(medians=self.medians, least=self.minima)

    @property
    def speedup(self) -> float:
        """Median before over median after, above 1 is faster; `times` says whether it counts."""
        first, second = self.medians
        return first / second

    @property
    def sure(self) -> bool:
        """Whether times had settled, and the middle halves of both series do not overlap."""
        (low, high), (least, most) = (
            quantiles(series, n=4, method="inclusive")[::2] for series in (self.before, self.after)
        )
        return not self.unsettled and (most < low or least > high)

    @property
    def unsettled(self) -> str:
        """What to know of times that were still changing; empty if they had settled."""
        if self.warm_up is None or self.warm_up.settled:
            return ""
        return (
            f"still changed by {100 * SETTLED:g} % or more from one call to the next after "
            f"{self.warm_up.calls} calls ({self.warm_up.seconds:.2g} s) of warming up, and "
            "may hold part of that; repeat it on a machine with nothing else to do, or for longer"
        )

    def section(self) -> Timed:
        """Return medians, minima, every sample in seconds, and how they were warmed up."""
        return Timed(
            before=self.medians[0],
            after=self.medians[1],
            minimum=Pair.of(self.minima),
            samples=Samples(before=self.before, after=self.after),
            loops=self.loops,
            warm_up=self.warm_up,
        )


def check_seconds(seconds: float | int) -> None:
    """Raise unless a time to spend is a number above 0."""
    if not math.isfinite(seconds) or seconds <= 0:
        raise InputError(f"seconds is {seconds}", allowed="a number > 0")


@contextmanager
def _no_collection() -> Iterator[None]:
    """Keep the garbage collector out of the samples."""
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def time_pair(
    run_a: Run,
    run_b: Run,
    *,
    seconds: float | int,
    min_repeats: int = 7,
    synchronise: Callable[[], object] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Timing:
    """Time two runs in turns (A B A B …) until the time is used up.

    Both are run, also in turns, until each has taken the same time twice in a row, but no longer
    than half of the time again: the first calls start threads, fill caches and the allocator, and
    can take many times as long. Runs far below a millisecond are looped, so that the clock's
    resolution does not matter.

    ``seconds`` are exceeded only to reach ``min_repeats`` samples of each, ≥ 3; ``synchronise``
    waits for a device that works asynchronously.
    """
    check_seconds(seconds)
    if min_repeats < 3:
        raise InputError(f"min_repeats is {min_repeats}", allowed="an integer ≥ 3")

    def sample(run: Run, loops: int) -> float:
        start = clock()
        for _ in range(loops):
            run()
        if synchronise is not None:
            synchronise()
        return (clock() - start) / loops

    with _no_collection():
        warm_up, shortest = _warm_up(partial(sample, run_a), partial(sample, run_b), seconds, clock)
        loops = _loops(shortest)
        before: list[float] = []
        after: list[float] = []
        end = clock() + seconds
        while len(before) < min_repeats or clock() < end:
            before.append(sample(run_a, loops))
            after.append(sample(run_b, loops))
    return Timing(before=tuple(before), after=tuple(after), loops=loops, warm_up=warm_up)


def _warm_up(
    sample_a: Sample, sample_b: Sample, seconds: float | int, clock: Callable[[], float]
) -> tuple[WarmUp, float]:
    """Sample two runs in turns until both have settled; return the shortest of the last samples."""
    start, calls, loops = clock(), 0, 1
    end = math.inf
    rounds: list[tuple[float, float]] = []
    settled = False
    while not settled:
        if len(rounds) >= (_LEAST_ROUNDS if clock() >= end else _MOST_ROUNDS):
            break
        rounds.append((sample_a(loops), sample_b(loops)))
        calls += loops
        if len(rounds) > 1:
            loops = _loops(min(rounds[-1]))
        else:
            # The first calls pay for lazy initialisation, and say nothing about what follows.
            end = clock() + _SHARE * seconds
        settled = len(rounds) >= _LEAST_ROUNDS and all(map(_alike, *rounds[-2:]))
    return WarmUp(calls=calls, seconds=clock() - start, settled=settled), min(rounds[-1])


def _alike(first: float, second: float) -> bool:
    return abs(first - second) < SETTLED * min(first, second)


def _loops(shortest: float) -> int:
    return min(_MOST_LOOPS, max(1, math.ceil(_SHORTEST_SAMPLE / max(shortest, 1e-9))))
