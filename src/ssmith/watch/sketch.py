"""How numbers were spread at release, and how far new ones are from that."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ssmith.core.optional import require

Values = NDArray[np.float64]
Counts = NDArray[np.int64]
POINTS = 256
"""Points of a grid of quantiles."""
ROUNDING = 1e-5
"""Share of the largest value at which two values are one: what batches of another size change."""
_NEAR, _CLOSE = 1e4, 10.0
"""How far above the level of a test a bound, or the approximation, is left as it is."""


@dataclass(frozen=True, kw_only=True)
class Sketch:
    """How the numbers of one reading were spread over the rows of a profile.

    The grid holds at most 256 of the values, at evenly spaced ranks, and the exact share of
    values up to each: a distance between two distributions is measured there and can only be too
    small. No row is kept.

    Args:
        grid: rising values.
        shares: share of the values ≤ each of them; the last is 1.
        count: values there were.
        mean: their mean.
        std: their standard deviation.
        step: values are rounded to multiples of it.
    """

    grid: Values
    shares: Values
    count: int
    mean: float
    std: float
    step: float

    @classmethod
    def of(cls, values: Values) -> Sketch:
        """Take the sketch of some values: finite numbers, one per row, at least one."""
        largest = float(np.abs(values).max())
        step = 10.0 ** np.ceil(np.log10(largest * ROUNDING)) if largest > 0 else 1.0
        rounded = np.sort(np.round(values / step) * step)
        ranks = np.linspace(0, len(rounded) - 1, min(POINTS, len(rounded))).round().astype(int)
        grid = np.unique(rounded[ranks])
        shares = np.searchsorted(rounded, grid, side="right") / len(rounded)
        return cls(
            grid=grid, shares=shares, count=len(values), mean=float(values.mean()),
            std=float(values.std()), step=float(step),
        )  # fmt: skip

    def counts(self, values: Values) -> Counts:
        """Count new values between the points of the grid, and below and above it."""
        return np.bincount(self.places(values), minlength=len(self.grid) + 1)

    def places(self, values: Values) -> Counts:
        """Return the part of the grid that each value falls into."""
        rounded = np.round(values / self.step) * self.step
        # Half a step of slack: the same multiple may differ in its last bit.
        found: Counts = np.searchsorted(self.grid, rounded - self.step / 2, side="left")
        return found

    def apart(self, counts: Counts, *, up: bool = False) -> tuple[Values, Counts]:
        """Return how far new values are from the old ones, for each row of a table of counts.

        The largest difference of shares, in [0, 1], and the point of the grid it stands at; ``up``
        counts only new values that are larger.
        """
        gap = self.shares - counts[:, :-1].cumsum(1) / counts.sum(1, keepdims=True)
        size = gap if up else np.abs(gap)
        return np.maximum(size.max(1), 0.0), size.argmax(1)

    def chances(self, counts: Counts, *, up: bool = False, matters: float = 0.0) -> Values:
        """Return p-values of "new values are spread as the old ones" (Kolmogorov–Smirnov), by row.

        ``up`` is against "new values are larger" alone; what is far above ``matters`` is only
        bounded from above.
        """
        stats = require("scipy.stats", extra="watch", purpose="a test for drift")
        many = counts.sum(1)
        distance = self.apart(counts, up=up)[0]
        weight = self.count * many / (self.count + many)
        bound: Values = np.exp(-2.0 * weight * distance**2)
        if up:
            return bound
        # Dvoretzky, Kiefer and Wolfowitz: never too small, and enough where nothing is near.
        found: Values = np.minimum(1.0, 2.0 * bound)
        near = np.flatnonzero(found <= max(_NEAR * matters, matters >= 1.0))
        found[near] = stats.kstwo.sf(distance[near], np.maximum(weight[near].round(), 1))
        for row in near[found[near] <= _CLOSE * matters]:
            old, new = self._drawn(self._own()), self._drawn(counts[row])
            found[row] = max(found[row], float(stats.ks_2samp(new, old, method="auto").pvalue))
        return found

    def moved(self, counts: Counts) -> float:
        """Return how far values have moved on average, in their own unit (Wasserstein).

        Values beyond the grid count as at its end.
        """
        stats = require("scipy.stats", extra="watch", purpose="a test for drift")
        ends = np.append(self.grid, self.grid[-1])
        return float(stats.wasserstein_distance(ends, ends, self._own(), counts))

    def drawn(self) -> Values:
        """Return values that stand for those it was taken of: points of the grid, as often."""
        return np.repeat(np.append(self.grid, self.grid[-1]), self._own())

    def _own(self) -> Counts:
        """Return the counts of the values the sketch was taken of."""
        whole = np.append(self.shares, 1.0) * self.count
        return np.diff(whole, prepend=0.0).round().astype(np.int64)

    def _drawn(self, counts: Counts) -> Counts:
        """Return values with these counts that have the grid's order: their places."""
        return np.repeat(np.arange(len(counts)), counts)
