"""Intervals: Wilson for a share, Tango for a difference of paired shares, bootstrap else."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from ssmith.core.errors import DataError, InputError, NumericalError
from ssmith.core.seeds import generator
from ssmith.core.words import number_of
from ssmith.evaluation.metrics import Metric

_DRAWS_AT_ONCE = 2**20
_BISECTIONS = 60


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A number with its interval.

    Args:
        value: point estimate.
        low: lower end.
        high: upper end.
        level: confidence of the two-sided interval, in (0, 1).
        method: how the interval was made.
        count: sequences behind it.
    """

    value: float
    low: float
    high: float
    level: float
    method: str
    count: int

    def as_dict(self) -> dict[str, Any]:
        """Return value, low and high."""
        return {"value": self.value, "low": self.low, "high": self.high}

    def __str__(self) -> str:
        return (
            f"{self.value:.4f} [{self.low:.4f}, {self.high:.4f}] "
            f"({self.method}, {self.level:.0%}, {number_of(self.count, 'sequence')})"
        )


def check_level(level: float) -> None:
    """Raise unless ``level`` is a confidence.

    Args:
        level: what to check.

    Raises:
        InputError: if it is not inside (0, 1).
    """
    if not 0.0 < level < 1.0:
        raise InputError(f"level is {level}", allowed="a number between 0 and 1, e.g. 0.95")


def check_values(values: Float64[Tensor, "n"]) -> None:
    """Raise unless there is at least one value and all are finite.

    Args:
        values: one per sequence.

    Raises:
        DataError: if there is none.
        NumericalError: if one is NaN or infinite.
    """
    if not len(values):
        raise DataError("there is no sequence to measure on")
    if not bool(values.isfinite().all()):
        raise NumericalError("the metric of at least one sequence is not finite")


def wilson(successes: int, count: int, level: float = 0.95) -> Estimate:
    """Return a share with its Wilson score interval.

    Args:
        successes: how many of ``count`` succeeded.
        count: trials, ≥ 1.
        level: confidence, in (0, 1).

    Returns:
        The estimate; its interval lies inside [0, 1].

    Raises:
        InputError: if the counts or the level are impossible.
    """
    check_level(level)
    if count < 1 or not 0 <= successes <= count:
        raise InputError(f"{successes} of {count} succeeded", allowed="0 ≤ successes ≤ count")
    share, z = successes / count, two_sided_z(level)
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = math.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2) * z
    half /= 1 + z * z / count
    return Estimate(
        value=share,
        low=0.0 if successes == 0 else middle - half,
        high=1.0 if successes == count else middle + half,
        level=level,
        method="Wilson",
        count=count,
    )


def two_sided_z(level: float) -> float:
    """Return the normal quantile of a two-sided interval."""
    return NormalDist().inv_cdf((1 + level) / 2)


def resample(count: int, *, seed: int, resamples: int) -> Iterator[Int64[Tensor, "r n"]]:
    """Yield bootstrap indices in blocks of bounded memory.

    Args:
        count: sequences to draw from, and drawn each time.
        seed: the same seed gives the same indices, whatever they are used on.
        resamples: rows in all, ≥ 100.

    Yields:
        Blocks of rows of indices in [0, count).

    Raises:
        InputError: if there are fewer than 100 resamples.
    """
    if resamples < 100:
        raise InputError(f"{resamples} resamples", allowed="at least 100")
    stream = generator(seed, "bootstrap")
    block = max(1, _DRAWS_AT_ONCE // count)
    for start in range(0, resamples, block):
        rows = min(block, resamples - start)
        yield torch.randint(count, (rows, count), generator=stream)


def bootstrap_means(
    values: Float64[Tensor, "n k"], *, seed: int, resamples: int
) -> Float64[Tensor, "r k"]:
    """Return the mean of each column over bootstrap resamples of the rows."""
    blocks = resample(len(values), seed=seed, resamples=resamples)
    return torch.cat(
        [
            torch.stack([column[index].mean(dim=1) for column in values.unbind(dim=1)], dim=1)
            for index in blocks
        ]
    )


def quantile(draws: Float64[Tensor, "r"], share: float) -> float:
    """Return a quantile by linear interpolation (of any number of draws)."""
    ordered, position = draws.sort().values, share * (len(draws) - 1)
    below = min(math.floor(position), len(draws) - 2)
    low, high = float(ordered[below]), float(ordered[below + 1])
    return low + (high - low) * (position - below)


def estimate(
    values: Float64[Tensor, "n"],
    metric: Metric,
    *,
    seed: int,
    level: float = 0.95,
    resamples: int = 10_000,
) -> Estimate:
    """Return a metric with its interval: Wilson for a share, else percentile bootstrap.

    Args:
        values: outcome of each sequence, as ``metric.per_sequence`` gives it.
        metric: what the values mean.
        seed: of the bootstrap.
        level: confidence, in (0, 1).
        resamples: of the bootstrap, ≥ 100.

    Returns:
        The estimate.

    Raises:
        InputError: if a setting is out of range.
        DataError: if there is no sequence.
        NumericalError: if a value is not finite.
    """
    check_level(level)
    check_values(values)
    if metric.proportion:
        return wilson(round(float(values.sum())), len(values), level)
    means = bootstrap_means(values[:, None], seed=seed, resamples=resamples)
    draws = metric.of_mean(means[:, 0])
    return Estimate(
        value=metric.aggregate(values),
        low=quantile(draws, (1 - level) / 2),
        high=quantile(draws, (1 + level) / 2),
        level=level,
        method=f"bootstrap, {resamples} resamples",
        count=len(values),
    )


def _tango_score(plus: float | int, minus: float | int, count: float | int, delta: float) -> float:
    """Return the score statistic of H0: difference of the paired shares = ``delta``."""
    linear = -plus - minus + (2 * count - plus + minus) * delta
    constant = -minus * delta * (1 - delta)
    share = (math.sqrt(max(linear**2 - 8 * count * constant, 0.0)) - linear) / (4 * count)
    variance = count * (2 * share + delta * (1 - delta))
    return (plus - minus - count * delta) / math.sqrt(max(variance, 1e-300))


def tango(
    plus: float | int, minus: float | int, count: float | int, z: float
) -> tuple[float, float]:
    """Return the score interval of a paired difference of shares, (plus − minus) / count.

    Unlike the bootstrap it keeps a width when no pair disagrees, which on a small test set is
    no proof that the models agree.

    Source: Tango, "Equivalence test and confidence interval for the difference in proportions
    for the paired-sample design", Statistics in Medicine 17 (1998), section 4.

    Args:
        plus: pairs in which only the first succeeds, ≥ 0.
        minus: pairs in which only the second succeeds, ≥ 0.
        count: all pairs, ≥ plus + minus; fractions are allowed (to look at larger test sets).
        z: normal quantile, > 0.

    Returns:
        Lower and upper end, in [−1, 1].

    Raises:
        InputError: if the counts are impossible.
    """
    if count <= 0 or plus < 0 or minus < 0 or plus + minus > count:
        raise InputError(f"{plus} and {minus} of {count} pairs", allowed="parts of the whole")

    def upper(first: float | int, second: float | int) -> float:
        low, high = (first - second) / count, 1.0
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            if _tango_score(first, second, count, middle) > -z:
                low = middle
            else:
                high = middle
        return high

    return -upper(minus, plus), upper(plus, minus)
