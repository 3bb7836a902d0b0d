"""A mean looked at as often as one likes: intervals that hold all along, and when to stop."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from ssmith.core.checks import check_choice, check_integer, check_number
from ssmith.core.errors import ArtefactError, DataError, InputError
from ssmith.core.settings import typed
from ssmith.evaluation.betting import Seen, added, bernstein, observe, winnings
from ssmith.evaluation.intervals import check_level

Decision = Literal["open", "worse", "within", "exhausted"]
VERSION = 1
_SIDES = ("both", "above")
_AT_ONCE = 2**20
_SUMS = ("total", "squares", "bets", "betted", "penalty")


@dataclass(frozen=True, kw_only=True)
class SequentialConfig:
    """What is asked about a mean, and when to stop asking.

    Args:
        tolerance: largest mean that is accepted, in the unit of the observations.
        low: least value an observation can have.
        high: largest value an observation can have.
        level: confidence of all statements together, however often one looks, in (0, 1).
        budget: most observations; none if None.
        sides: ``"both"``, or ``"above"`` to put all capital on a mean above the tolerance; it is
            found sooner, and nothing is ever proven to be within.
        cells: means that are told apart on either side of the tolerance, finer near it; 0 for a
            decision without an interval.

    Raises:
        InputError: if a value is outside its domain.
    """

    tolerance: float
    low: float = -1.0
    high: float = 1.0
    level: float = 0.95
    budget: int | None = None
    sides: str = "both"
    cells: int = 200

    def __post_init__(self) -> None:
        check_number("low", self.low)
        check_number("high", self.high, above=self.low)
        check_number("tolerance", self.tolerance, at_least=self.low, below=self.high)
        check_level(self.level)
        check_choice("sides", self.sides, _SIDES)
        check_integer("cells", self.cells, at_least=0)
        if self.budget is not None:
            check_integer("budget", self.budget, at_least=1)

    @property
    def alpha(self) -> float:
        """1 − confidence."""
        return 1 - self.level

    def in_unit(self, values: Float64[Tensor, "..."]) -> Float64[Tensor, "..."]:
        """Bring values from [low, high] to [0, 1]."""
        return (values - self.low) / (self.high - self.low)

    def means(self) -> Float64[Tensor, "m"]:
        """Return the means that are bet against, in [0, 1]: 0, 1, and the tolerance among them."""
        at = self.in_unit(torch.tensor(self.tolerance, dtype=torch.float64))
        steps = torch.linspace(0, 1, self.cells + 1, dtype=torch.float64)[1:].square()
        return torch.cat([at - at * steps.flip(0), at[None], at + (1 - at) * steps])


@dataclass(frozen=True, kw_only=True)
class _State:
    """What `Sequential.as_dict` returns."""

    version: int
    config: SequentialConfig
    count: int
    total: float
    squares: float
    bets: float
    betted: float
    penalty: float
    above: tuple[float, ...]
    below: tuple[float, ...]
    ends: tuple[float, float]
    decided: int

    def __post_init__(self) -> None:
        check_integer("count", self.count, at_least=0)


@dataclass(frozen=True, kw_only=True)
class Capitals:
    """Logarithms of what bettors have, for each mean that is bet against, of each stream."""

    above: Float64[Tensor, "m s"]
    below: Float64[Tensor, "m s"]


@dataclass(kw_only=True)
class Sequential:
    """The mean of a stream of bounded observations, decided as soon as it can be.

    Two bettors start with half the capital each; one thinks that the mean is above, the other
    that it is below. A mean for which they have 1 / α together is rejected. Whatever one looks at
    and whenever one stops, all statements hold together with probability ``level``; a mean that
    changes over time is what ``worse`` is about as well: some observation was expected to be
    above the tolerance.

    >>> test = Sequential(config=SequentialConfig(tolerance=0.02))
    >>> test.observe([0.0, 1.0, 0.0, -1.0])
    >>> test.decision
    'open'

    Args:
        config: what is asked.
        streams: independent streams that are looked at alike; more than one in simulations.
    """

    config: SequentialConfig
    streams: int = 1
    seen: Seen = field(init=False)
    capitals: Capitals = field(init=False)
    ends: tuple[Float64[Tensor, "s"], Float64[Tensor, "s"]] = field(init=False)
    decided: Float64[Tensor, "s"] = field(init=False)
    """When each stream was decided, counted from 1: positive if worse, negative if within."""

    def __post_init__(self) -> None:
        self.seen = Seen.nothing(self.streams)
        shape = (2 * self.config.cells + 1, self.streams)
        start = torch.zeros(shape, dtype=torch.float64)
        self.capitals = Capitals(above=start, below=start)
        self.ends = (start[0], start[0] + 1)
        self.decided = start[0]

    def observe(self, values: Float64[Tensor, "t s"] | Iterable[float]) -> None:
        """Take some more observations, in order, as if each had been looked at by itself.

        Numbers of the one stream; or a row for each time, a column for each stream. Raises
        `DataError` if one is not finite, or outside its bounds; none is taken then.
        """
        config = self.config
        if not isinstance(values, Tensor):
            values = torch.tensor(list(values), dtype=torch.float64)[:, None]
        bad = ~((values >= config.low) & (values <= config.high))
        if bool(bad.any()):
            raise DataError(
                f"an observation is {float(values[bad][0])}",
                allowed=f"{config.low:g} to {config.high:g}",
                next_step="give the bounds of what is observed",
            )
        size = max(1, _AT_ONCE // self.capitals.above.numel())
        for part in config.in_unit(values).split(size):
            if len(part):
                self._take(part)

    def _take(self, values: Float64[Tensor, "t s"]) -> None:
        before, means = self.seen.count, self.config.means()
        self.seen, bets = observe(self.seen, values, self.config.alpha)
        above, below = winnings(values, bets, means)
        above, below = added(self.capitals.above, above), added(self.capitals.below, below)
        self.capitals = Capitals(above=above[-1], below=below[-1])
        if self.config.cells:
            self._narrow(self._rejected(above[:, 1:], below[:, :-1]), means)
        at = self.config.cells
        self._decide(above[:, at], below[:, at], before)

    def _rejected(
        self, above: Float64[Tensor, "... s"], below: Float64[Tensor, "... s"]
    ) -> Bool[Tensor, "... s"]:
        return self._together(above, below) >= -math.log(self.config.alpha)

    def _together(
        self, above: Float64[Tensor, "... s"], below: Float64[Tensor, "... s"]
    ) -> Float64[Tensor, "... s"]:
        if self.config.sides == "above":
            return above
        return torch.logaddexp(above, below) - math.log(2)

    def _narrow(self, rejected: Bool[Tensor, "t c s"], means: Float64[Tensor, "m"]) -> None:
        """Keep what is common to the intervals of all times.

        Between two neighbouring means the one capital is at least what it is at the upper and the
        other at least what it is at the lower, so that a cell is rejected as a whole.
        """
        kept = ~rejected
        first = kept.double().argmax(1)
        last = kept.shape[1] - 1 - kept.flip(1).double().argmax(1)
        some = kept.any(1)
        lows = torch.where(some, means[first], 0.0).amax(0)
        highs = torch.where(some, means[last + 1], 1.0).amin(0)
        low, high = torch.maximum(self.ends[0], lows), torch.minimum(self.ends[1], highs)
        # A mean that moved may leave none that fits all times; the last interval stands then.
        fits = low <= high
        self.ends = (
            torch.where(fits, low, self.ends[0]),
            torch.where(fits, high, self.ends[1]),
        )

    def _decide(
        self, above: Float64[Tensor, "t s"], below: Float64[Tensor, "t s"], before: int
    ) -> None:
        """Note the first time at which the tolerance itself is rejected, and on which side."""
        crossed = self._rejected(above, below)
        budget = self.config.budget
        if budget is not None:
            crossed[max(0, budget - before) :] = False
        first = crossed.double().argmax(0)
        worse = (above > below).gather(0, first[None])[0]
        when = (first + before + 1).double() * torch.where(worse, 1.0, -1.0)
        self.decided = torch.where((self.decided == 0) & crossed.any(0), when, self.decided)

    @property
    def count(self) -> int:
        """Observations so far."""
        return self.seen.count

    @property
    def decision(self) -> Decision:
        """What is decided of the one stream; a decision stays, whatever comes after it."""
        decided = float(self._one(self.decided))
        if decided:
            return "worse" if decided > 0 else "within"
        budget = self.config.budget
        return "exhausted" if budget is not None and self.count >= budget else "open"

    @property
    def decided_at(self) -> int | None:
        """The observation that decided it, counted from 1."""
        return abs(int(self._one(self.decided))) or None

    @property
    def mean(self) -> float:
        """Mean of all observations; not a number before the first."""
        if not self.count:
            return math.nan
        return self._out(self._one(self.seen.total) / self.count)

    @property
    def interval(self) -> tuple[float, float]:
        """The interval by betting that holds at all times together."""
        return self._out(self._one(self.ends[0])), self._out(self._one(self.ends[1]))

    @property
    def bernstein(self) -> tuple[float, float]:
        """The empirical Bernstein interval of this moment alone, in closed form."""
        if not self.count:
            return self.config.low, self.config.high
        low, high = bernstein(self.seen, self.config.alpha)
        return self._out(self._one(low)), self._out(self._one(high))

    @property
    def evidence(self) -> float:
        """What one unit of money bet on a mean above the tolerance has become (an e-value)."""
        return math.exp(min(float(self._one(self.capitals.above[self.config.cells])), 700.0))

    def _one(self, values: Float64[Tensor, "s"]) -> Float64[Tensor, ""]:
        if self.streams != 1:
            raise InputError(f"{self.streams} streams", allowed="one stream")
        return values[0]

    def _out(self, value: Float64[Tensor, ""]) -> float:
        return self.config.low + (self.config.high - self.config.low) * float(value)

    def as_dict(self) -> dict[str, Any]:
        """Return all that is needed to go on later, of one stream, as plain JSON."""
        return {
            "version": VERSION,
            "config": asdict(self.config),
            "count": self.count,
            **{name: float(self._one(getattr(self.seen, name))) for name in _SUMS},
            "above": self.capitals.above[:, 0].tolist(),
            "below": self.capitals.below[:, 0].tolist(),
            "ends": [float(end[0]) for end in self.ends],
            "decided": int(self.decided[0]),
        }

    @staticmethod
    def from_dict(content: Mapping[str, Any]) -> Sequential:
        """Go on where `as_dict` stopped; raises `ArtefactError` if it is something else."""
        held = typed(_State, content, where="the state of a test", next_step="begin anew")
        cells = 2 * held.config.cells + 1
        # Told from the file itself, before memory is taken for so many.
        if held.version != VERSION or not len(held.above) == len(held.below) == cells:
            raise ArtefactError(
                f"the state of a test has version {held.version}, and {len(held.above)} and "
                f"{len(held.below)} capitals",
                allowed=f"version {VERSION}, and {cells} of each",
                next_step="begin anew",
            )
        found = Sequential(config=held.config)
        sums = {name: _tensor([getattr(held, name)]) for name in _SUMS}
        found.seen = Seen(count=held.count, **sums)
        above, below = (_tensor(values)[:, None] for values in (held.above, held.below))
        found.capitals = replace(found.capitals, above=above, below=below)
        found.ends = (_tensor([held.ends[0]]), _tensor([held.ends[1]]))
        found.decided = _tensor([held.decided])
        return found


def _tensor(values: Any) -> Float64[Tensor, "i"]:
    return torch.tensor(values, dtype=torch.float64)
