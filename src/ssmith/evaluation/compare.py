"""Two models on the same sequences: paired difference, interval, test and loss bounds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor

from ssmith.core.errors import InputError
from ssmith.core.seeds import generator
from ssmith.evaluation.intervals import (
    Estimate,
    bootstrap_means,
    check_level,
    check_values,
    estimate,
    quantile,
    tango,
    two_sided_z,
)
from ssmith.evaluation.metrics import Metric

_DRAWS_AT_ONCE = 2**20
_LARGEST_TEST_SET = 10**9


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """The 2×2 table of a paired comparison of shares."""

    both_right: int
    only_before: int
    only_after: int
    both_wrong: int

    def as_dict(self) -> dict[str, int]:
        """Return the four counts."""
        return dict(vars(self))


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A metric before and after, measured on the same sequences.

    Args:
        metric: what was measured.
        before: the first model.
        after: the second model.
        difference: after − before, with a two-sided interval.
        loss_lower_bound: the true loss is at least this, one-sided at ``difference.level``.
        loss_upper_bound: the true loss is at most this, one-sided at ``difference.level``.
        p: two-sided p-value of "no difference".
        p_test: name of the test.
        agreement: who is right where (classification).
    """

    metric: Metric
    before: Estimate
    after: Estimate
    difference: Estimate
    loss_lower_bound: float
    loss_upper_bound: float
    p: float
    p_test: str
    agreement: Agreement | None

    def __str__(self) -> str:
        return "\n".join(
            [
                f"{self.metric.name} before: {self.before}",
                f"{self.metric.name} after:  {self.after}",
                f"difference: {self.difference}; p = {self.p:.3g} ({self.p_test})",
            ]
        )

    @property
    def loss(self) -> float:
        """How much worse the second model is, in the metric's unit (negative: better)."""
        return self.metric.loss(self.before.value, self.after.value)

    @property
    def count(self) -> int:
        """Number of sequences."""
        return self.before.count

    def count_to_prove(self, max_loss: float | int) -> int | None:
        """Return about how many sequences would prove a loss of at most ``max_loss``.

        Assumes that a larger test set shows the same loss and the same share of disagreements.

        Args:
            max_loss: tolerance, in the metric's unit.

        Returns:
            A number of sequences, or None if no number would do.
        """
        if self.loss >= max_loss:
            return None
        if self.agreement is None:
            spread = (self.loss_upper_bound - self.loss) / (max_loss - self.loss)
            return max(self.count, math.ceil(self.count * spread**2))
        table, z = self.agreement, one_sided_z(self.difference.level)
        low, high = 0, 1
        while not _proves(table, self.count, high, max_loss, z):
            low, high = high, 2 * high
            if high > _LARGEST_TEST_SET:
                return None
        while high - low > max(1, low // 1000):
            middle = (low + high) // 2
            if _proves(table, self.count, middle, max_loss, z):
                high = middle
            else:
                low = middle
        return high

    def as_dict(self, *, split: str, own: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the quality section of a receipt.

        Args:
            split: name of the split that was measured.
            own: section of the user's own metric, if there is one.

        Returns:
            A JSON-ready dict.
        """
        return {
            "metric": self.metric.name,
            "higher_is_better": self.metric.higher_is_better,
            "split": split,
            "count": self.count,
            "counted": self.metric.counted,
            "before": self.before.as_dict(),
            "after": self.after.as_dict(),
            "level": self.difference.level,
            "interval": self.before.method,
            "difference": {**self.difference.as_dict(), "interval": self.difference.method},
            "loss": {
                "value": self.loss,
                "lower_bound": self.loss_lower_bound,
                "upper_bound": self.loss_upper_bound,
            },
            "p": self.p,
            "p_test": self.p_test,
            "agreement": None if self.agreement is None else self.agreement.as_dict(),
            "own": own,
        }


def one_sided_z(level: float) -> float:
    """Return the normal quantile of a one-sided bound."""
    return two_sided_z(2 * level - 1)


def _proves(table: Agreement, count: int, size: int, max_loss: float | int, z: float) -> bool:
    """Return whether ``size`` pairs with the same shares bound the loss by ``max_loss``."""
    scale = size / count
    upper = tango(table.only_before * scale, table.only_after * scale, size, z)[1]
    return upper <= max_loss


def mcnemar_exact(only_before: int, only_after: int) -> float:
    """Return the two-sided p-value of McNemar's exact test.

    Pairs that disagree are a fair coin if the models are equally good; p is twice the smaller
    binomial tail, at most 1.

    Args:
        only_before: pairs only the first model gets right, ≥ 0.
        only_after: pairs only the second model gets right, ≥ 0.

    Returns:
        A p-value; 1 if no pair disagrees.

    Raises:
        InputError: if a count is negative.
    """
    if min(only_before, only_after) < 0:
        raise InputError(f"counts {only_before} and {only_after}", allowed="integers ≥ 0")
    count, few = only_before + only_after, min(only_before, only_after)
    hits = torch.arange(few + 1, dtype=torch.float64)
    whole = torch.tensor(count, dtype=torch.float64)
    log_terms = torch.lgamma(whole + 1) - torch.lgamma(hits + 1) - torch.lgamma(whole - hits + 1)
    return min(1.0, 2 * math.exp(float(log_terms.logsumexp(0)) - count * math.log(2)))


def swap_test(
    before: Float64[Tensor, "n"],
    after: Float64[Tensor, "n"],
    metric: Metric,
    *,
    seed: int,
    resamples: int,
) -> float:
    """Return the two-sided p-value of a paired permutation test.

    If the models are equally good, each sequence's two outcomes may be swapped. p is the share
    of random swaps (the data itself counted in) that differ at least as much as the data.

    Args:
        before: outcomes of the first model.
        after: outcomes of the second model.
        metric: what the outcomes mean.
        seed: of the swaps.
        resamples: number of random swaps, ≥ 100.

    Returns:
        A p-value in [1 / (resamples + 1), 1].
    """
    stream, extreme = generator(seed, "swap"), 0
    block = max(1, _DRAWS_AT_ONCE // len(before))
    seen = abs(metric.aggregate(after) - metric.aggregate(before))
    # Equal up to rounding counts as "at least as much", or ties would lower p.
    slack = 1e-12 * float(metric.of_mean((before.abs() + after.abs()).mean()))
    for start in range(0, resamples, block):
        rows = min(block, resamples - start)
        swap = torch.randint(2, (rows, len(before)), generator=stream).bool()
        first, second = (
            metric.of_mean(torch.where(swap, *pair).mean(dim=1))
            for pair in ((after, before), (before, after))
        )
        extreme += int(((second - first).abs() >= seen - slack).sum())
    return (extreme + 1) / (resamples + 1)


def compare_outcomes(
    before: Float64[Tensor, "n"],
    after: Float64[Tensor, "k"],
    metric: Metric,
    *,
    seed: int,
    level: float = 0.95,
    resamples: int = 10_000,
) -> Comparison:
    """Compare two models by their outcomes on the same sequences, in the same order.

    A share (accuracy) gets Tango's score interval for the difference and McNemar's exact test;
    any other metric gets the paired percentile bootstrap and a paired permutation test.

    Args:
        before: outcome of each sequence under the first model (``metric.per_sequence``).
        after: the same under the second model.
        metric: what the outcomes mean.
        seed: of the bootstrap and the permutations.
        level: confidence, in (0.5, 1).
        resamples: of the bootstrap and the permutations, ≥ 100.

    Returns:
        The comparison; exchanging the models changes the sign of the difference only.

    Raises:
        InputError: if a setting is out of range.
        DataError: if there is no sequence.
        NumericalError: if an outcome is not finite.
    """
    check_level(level)
    if level <= 0.5:
        raise InputError(f"level is {level}", allowed="above 0.5, e.g. 0.95")
    for values in (before, after):
        check_values(values)
    if before.shape != after.shape:
        raise InputError(
            f"{len(before)} outcomes before and {len(after)} after",
            allowed="outcomes of the same sequences",
        )
    build = _compare_shares if metric.proportion else _compare_means
    return build(before, after, metric, level=level, seed=seed, resamples=resamples)


def _compare_shares(
    before: Tensor, after: Tensor, metric: Metric, *, level: float, seed: int, resamples: int
) -> Comparison:
    first, second = before.bool(), after.bool()
    table = Agreement(
        both_right=int((first & second).sum()),
        only_before=int((first & ~second).sum()),
        only_after=int((~first & second).sum()),
        both_wrong=int((~first & ~second).sum()),
    )
    count = len(before)
    plus, minus = table.only_after, table.only_before
    low, high = tango(plus, minus, count, two_sided_z(level))
    bounds = tango(plus, minus, count, one_sided_z(level))
    lower, upper = (-bounds[1], -bounds[0]) if metric.higher_is_better else bounds
    return Comparison(
        metric=metric,
        before=estimate(before, metric, seed=seed, level=level, resamples=resamples),
        after=estimate(after, metric, seed=seed, level=level, resamples=resamples),
        difference=Estimate(
            value=(plus - minus) / count,
            low=low,
            high=high,
            level=level,
            method="paired score interval (Tango)",
            count=count,
        ),
        loss_lower_bound=lower,
        loss_upper_bound=upper,
        p=mcnemar_exact(table.only_before, table.only_after),
        p_test="McNemar, exact",
        agreement=table,
    )


def _compare_means(
    before: Tensor, after: Tensor, metric: Metric, *, level: float, seed: int, resamples: int
) -> Comparison:
    pairs = torch.stack([before, after], dim=1)
    draws = metric.of_mean(bootstrap_means(pairs, seed=seed, resamples=resamples))
    sides = [(1 - level) / 2, (1 + level) / 2]
    difference = draws[:, 1] - draws[:, 0]
    loss = -difference if metric.higher_is_better else difference

    def single(values: Tensor, column: int) -> Estimate:
        low, high = (quantile(draws[:, column], side) for side in sides)
        return Estimate(
            value=metric.aggregate(values),
            low=low,
            high=high,
            level=level,
            method=f"bootstrap, {resamples} resamples",
            count=len(values),
        )

    first, second = single(before, 0), single(after, 1)
    return Comparison(
        metric=metric,
        before=first,
        after=second,
        difference=Estimate(
            value=second.value - first.value,
            low=quantile(difference, sides[0]),
            high=quantile(difference, sides[1]),
            level=level,
            method=f"paired bootstrap, {resamples} resamples",
            count=len(before),
        ),
        loss_lower_bound=quantile(loss, 1 - level),
        loss_upper_bound=quantile(loss, level),
        p=swap_test(before, after, metric, seed=seed, resamples=resamples),
        p_test=f"paired permutation, {resamples} swaps",
        agreement=None,
    )
