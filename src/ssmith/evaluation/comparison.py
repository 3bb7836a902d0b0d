"""Two models on the same rows: paired difference, interval, test and loss bounds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ssmith.core.errors import InputError
from ssmith.core.seeds import generator
from ssmith.core.settings import AsDict
from ssmith.evaluation.intervals import (
    Estimate,
    bootstrap_ratios,
    check_level,
    estimate,
    interval,
    quantile,
    tango,
    two_sided_z,
)
from ssmith.evaluation.metrics import Metric, Outcomes

_DRAWS_AT_ONCE = 2**20
_LARGEST_TEST_SET = 10**9


@dataclass(frozen=True, kw_only=True)
class Agreement(AsDict):
    """The 2×2 table of a paired comparison of shares."""

    both_right: int
    only_before: int
    only_after: int
    both_wrong: int


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A metric before and after, measured on the same rows.

    Args:
        metric: what was measured.
        before: the first model.
        after: the second model.
        difference: after − before, with a two-sided interval.
        increase: after / before − 1 of a metric whose losses are relative, else None.
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
    increase: Estimate | None = None
    loss_lower_bound: float
    loss_upper_bound: float
    p: float
    p_test: str
    agreement: Agreement | None

    def __str__(self) -> str:
        change, shown = f"difference: {self.difference.text}", self.increase
        if shown is not None:
            change = (
                f"change: {shown.value:+.2%} [{shown.low:+.2%}, {shown.high:+.2%}] ({shown.method})"
            )
        lines = [
            f"{self.metric.name} before: {self.before.text}",
            f"{self.metric.name} after:  {self.after.text}",
            f"{change}; p = {self.p:.3g} ({self.p_test})",
        ]
        return "\n".join([*lines, f"on {self.before.place}"] if shown else lines)

    @property
    def loss(self) -> float:
        """How much worse the second model is, in the metric's unit (negative: better)."""
        return self.metric.loss(self.before.value, self.after.value)

    @property
    def change(self) -> Estimate:
        """What changed, as losses are told: the increase where they are relative."""
        return self.increase or self.difference

    @property
    def count(self) -> int:
        """Number of rows."""
        return self.before.count

    def count_to_prove(self, max_loss: float | int) -> int | None:
        """Return about how many sequences would prove a loss of at most ``max_loss``.

        Assumes that a larger test set shows the same loss and the same share of disagreements.

        None if no number would do.
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
        """Return the quality section of a receipt."""
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
            **self._beyond_a_mean(),
        }

    def _beyond_a_mean(self) -> dict[str, Any]:
        """Return what only metrics with weights, relative losses or companions have."""
        section: dict[str, Any] = {}
        if self.increase is not None:
            section["increase"] = {**self.increase.as_dict(), "interval": self.increase.method}
        if self.metric.weighed:
            section |= {"weight": self.before.weight, "weighed": self.metric.weighed}
        if self.before.also:
            section["also"] = {
                name: {"before": first.as_dict(), "after": self.after.also[name].as_dict()}
                for name, first in self.before.also.items()
            }
        if self.before.paths:
            section["paths"] = {
                "before": list(self.before.paths),
                "after": list(self.after.paths),
            }
        return section


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
    """
    if min(only_before, only_after) < 0:
        raise InputError(f"counts {only_before} and {only_after}", allowed="integers ≥ 0")
    count, few = only_before + only_after, min(only_before, only_after)
    hits = torch.arange(few + 1, dtype=torch.float64)
    whole = torch.tensor(count, dtype=torch.float64)
    log_terms = torch.lgamma(whole + 1) - torch.lgamma(hits + 1) - torch.lgamma(whole - hits + 1)
    return min(1.0, 2 * math.exp(float(log_terms.logsumexp(0)) - count * math.log(2)))


def swap_test(before: Outcomes, after: Outcomes, *, seed: int, resamples: int) -> float:
    """Return the two-sided p-value of a paired permutation test.

    If the models are equally good, each row's two outcomes may be swapped. p is the share of random
    swaps (the data itself counted in) whose ratios of sums differ at least as much as the data's.
    Every link is monotone, so that with equal weights it orders the swaps as the ratios do.
    """
    stream, extreme = generator(seed, "swap"), 0
    ones = torch.ones_like(before.numerator)
    first, second = (
        torch.stack([item.numerator, ones if item.weight is None else item.weight], dim=1)
        for item in (before, after)
    )
    sums, change = (first + second).sum(dim=0), second - first

    def differences(signs: Tensor) -> Tensor:
        swapped = signs @ change
        high, low = (sums + swapped).unbind(1), (sums - swapped).unbind(1)
        return high[0] / high[1] - low[0] / low[1]

    seen = float(differences(ones[None]).abs())
    # Equal up to rounding counts as "at least as much", or ties would lower p.
    slack = 1e-12 * float((first[:, 0].abs() + second[:, 0].abs()).sum() / sums[1])
    block = max(1, _DRAWS_AT_ONCE // len(before))
    for start in range(0, resamples, block):
        rows = min(block, resamples - start)
        signs = 1 - 2 * torch.randint(2, (rows, len(before)), generator=stream).double()
        extreme += int((differences(signs).abs() >= seen - slack).sum())
    return (extreme + 1) / (resamples + 1)


def compare_outcomes(
    before: Outcomes,
    after: Outcomes,
    metric: Metric,
    *,
    seed: int,
    level: float = 0.95,
    resamples: int = 10_000,
) -> Comparison:
    """Compare two models by their outcomes on the same rows, in the same order.

    A share of rows (accuracy) gets Tango's score interval for the difference and McNemar's exact
    test; any other metric gets the paired percentile bootstrap and a paired permutation test.
    Exchanging the models changes the sign of the difference only.
    """
    check_level(level)
    if level <= 0.5:
        raise InputError(f"level is {level}", allowed="above 0.5, e.g. 0.95")
    if len(before) != len(after):
        raise InputError(
            f"{len(before)} outcomes before and {len(after)} after",
            allowed="outcomes of the same rows",
        )
    both = [
        estimate(item, metric, seed=seed, level=level, resamples=resamples)
        for item in (before, after)
    ]
    exact = metric.proportion and before.counts and after.counts
    build = _compare_shares if exact else _compare_ratios
    return build((before, after), (both[0], both[1]), metric, seed=seed, resamples=resamples)


def _compare_shares(
    outcomes: tuple[Outcomes, Outcomes],
    both: tuple[Estimate, Estimate],
    metric: Metric,
    *,
    seed: int,
    resamples: int,
) -> Comparison:
    del seed, resamples
    first, second = (item.numerator.bool() for item in outcomes)
    table = Agreement(
        both_right=int((first & second).sum()),
        only_before=int((first & ~second).sum()),
        only_after=int((~first & second).sum()),
        both_wrong=int((~first & ~second).sum()),
    )
    count, level = len(first), both[0].level
    plus, minus = table.only_after, table.only_before
    low, high = tango(plus, minus, count, two_sided_z(level))
    bounds = tango(plus, minus, count, one_sided_z(level))
    lower, upper = (-bounds[1], -bounds[0]) if metric.higher_is_better else bounds
    return Comparison(
        metric=metric,
        before=both[0],
        after=both[1],
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


def _compare_ratios(
    outcomes: tuple[Outcomes, Outcomes],
    both: tuple[Estimate, Estimate],
    metric: Metric,
    *,
    seed: int,
    resamples: int,
) -> Comparison:
    ratios = bootstrap_ratios(outcomes, seed=seed, resamples=resamples)
    draws, values = metric.of_ratio(ratios), (both[0].value, both[1].value)
    level, count = both[0].level, both[0].count
    method = f"paired bootstrap, {resamples} resamples"
    difference = draws[:, 1] - draws[:, 0]
    increase, loss = None, difference
    if metric.relative:
        loss = difference / draws[:, 0].abs()
        relative = (values[1] - values[0]) / abs(values[0])
        increase = interval(relative, loss, level, method, count)
    loss = -loss if metric.higher_is_better else loss
    return Comparison(
        metric=metric,
        before=both[0],
        after=both[1],
        difference=interval(values[1] - values[0], difference, level, method, count),
        increase=increase,
        loss_lower_bound=quantile(loss, 1 - level),
        loss_upper_bound=quantile(loss, level),
        p=swap_test(*outcomes, seed=seed, resamples=resamples),
        p_test=f"paired permutation, {resamples} swaps",
        agreement=None,
    )
