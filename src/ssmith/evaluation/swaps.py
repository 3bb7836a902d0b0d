"""A paired permutation test, and the interval of all shifts that it does not reject."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from ssmith.core.seeds import generator
from ssmith.evaluation.metrics import Outcomes

_DRAWS_AT_ONCE = 2**20
_STEPS = 60


@dataclass(frozen=True, kw_only=True)
class Swaps:
    """Random swaps of the two outcomes of each row.

    If the models are equally good, the outcomes of a row may be swapped. p is the share of random
    swaps (the data itself counted in) whose ratios of sums differ at least as much as the data's.
    If the second ratio is larger by δ, the same holds once δ is taken from it: the interval holds
    every δ that is not rejected so, and the test and it can never contradict each other.

    Args:
        changes: per swap, signed sums of: numerators after − before, weights after, weights after
            − before.
        before: sums of numerators and weights.
        after: the same of the second model.
        slack: what counts as equal, of a ratio.
    """

    changes: Float64[Tensor, "r 3"]
    before: tuple[float, float]
    after: tuple[float, float]
    slack: float

    @classmethod
    def draw(cls, before: Outcomes, after: Outcomes, *, seed: int, resamples: int) -> Swaps:
        """Swap outcomes of two models on the same rows at random, ``resamples`` ≥ 100 times."""
        stream = generator(seed, "swap")
        ones = torch.ones_like(before.numerator)
        first, second = before.numerator, after.numerator
        weights = [ones if item.weight is None else item.weight for item in (before, after)]
        columns = torch.stack([second - first, weights[1], weights[1] - weights[0]], dim=1)
        found, block = [], max(1, _DRAWS_AT_ONCE // len(before))
        for start in range(0, resamples, block):
            shape = (min(block, resamples - start), len(before))
            found.append((1 - 2 * torch.randint(2, shape, generator=stream).double()) @ columns)
        # Equal up to rounding counts as "at least as much", or ties would lower p.
        size = (first.abs().sum() + second.abs().sum()) / sum(weights).sum()  # type: ignore[union-attr]
        return cls(
            changes=torch.cat(found),
            before=(float(first.sum()), float(weights[0].sum())),
            after=(float(second.sum()), float(weights[1].sum())),
            slack=1e-12 * float(size),
        )

    @property
    def shift(self) -> float:
        """How much larger the second ratio is."""
        return self.after[0] / self.after[1] - self.before[0] / self.before[1]

    def p(self, shift: float = 0.0) -> float:
        """Return the two-sided p-value of "the second ratio is larger by ``shift``", never 0."""
        change = self.changes[:, 0] - shift * self.changes[:, 1]
        weight = self.changes[:, 2]
        top = self.before[0] + self.after[0] - shift * self.after[1]
        whole = self.before[1] + self.after[1]
        gaps = (top + change) / (whole + weight) - (top - change) / (whole - weight)
        seen = abs(self.shift - shift)
        slack = self.slack + 1e-12 * abs(shift)
        return (int((gaps.abs() >= seen - slack).sum()) + 1) / (len(gaps) + 1)

    def interval(self, level: float) -> tuple[float, float] | None:
        """Return the ends of all shifts that are not rejected, or None where no shift ever is."""
        ends = [self._end(side, 1 - level) for side in (-1.0, 1.0)]
        if ends[0] is None or ends[1] is None:
            return None
        # Where the models answer alike, what the search finds is rounding.
        alike = self._spread() <= self.slack
        return (self.shift, self.shift) if alike else (ends[0], ends[1])

    def _end(self, side: float, alpha: float) -> float | None:
        """Return the last shift on one side of the seen one that is not rejected."""
        inside, step = self.shift, max(self._spread(), self.slack)
        toward = -self.shift * side > 0
        if toward and self.p() <= alpha:
            # No difference is rejected, so that the end lies before it.
            outside = 0.0
        else:
            inside = 0.0 if toward else inside
            outside = self.shift + side * step if not toward else side * step
            for _ in range(_STEPS):
                if self.p(outside) <= alpha:
                    break
                step *= 2
                outside = inside + side * step
            else:
                return None
        for _ in range(_STEPS):
            middle = (inside + outside) / 2
            if self.p(middle) <= alpha:
                outside = middle
            else:
                inside = middle
        return inside

    def _spread(self) -> float:
        """Return the root mean square of what the swaps make of the difference."""
        change = self.changes[:, 0] - self.shift * self.changes[:, 1]
        return 2 * math.sqrt(float(change.square().mean())) / (self.before[1] + self.after[1])
