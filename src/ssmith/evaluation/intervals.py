"""Intervals: Wilson for a share, Tango for a difference of paired shares, bootstrap else."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from statistics import NormalDist
from typing import Any

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from ssmith.core.errors import DataError, InputError, NumericalError
from ssmith.core.findings import Finding
from ssmith.core.sections import DataSection, Measured
from ssmith.core.seeds import generator
from ssmith.core.words import number_of
from ssmith.evaluation.metrics import METRICS, Metric, Outcomes
from ssmith.evaluation.naive import Naive, few_units

_DRAWS_AT_ONCE = 2**20
_BISECTIONS = 60
LEAST_UNITS = 2
"""Rows that differ, below which nothing is known of how they vary."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A number with its interval.

    Args:
        value: point estimate.
        low: lower end; None if there is no interval.
        high: upper end, None as above.
        level: confidence of the two-sided interval, in (0, 1).
        method: how the interval was made, or why there is none.
        count: rows behind it.
        units: rows among them that are no copies of others; all if None.
        metric: what was measured; None for a number that is none.
        weight: sum of the weights of these rows.
        also: further metrics of the same rows, by name.
        rows: what it was measured on; None of a number that is of no rows.
        paths: which backend ran, one line per operation.
        naive: what a naive answer reaches on the same rows; None if that is not known.
    """

    value: float
    low: float | None
    high: float | None
    level: float
    method: str
    count: int
    units: int | None = None
    naive: Naive | None = None
    metric: Metric | None = None
    weight: float = 0.0
    also: Mapping[str, Estimate] = field(default_factory=dict)
    rows: DataSection | None = None
    paths: tuple[str, ...] = ()

    def section(self, *, told: bool = False) -> Measured:
        """Return value, low and high for a receipt; and if told, how the interval was made."""
        how = self.method if told else ""
        return Measured(value=self.value, low=self.low, high=self.high, interval=how)

    def as_dict(self) -> dict[str, Any]:
        """Return value, low and high."""
        return {"value": self.value, "low": self.low, "high": self.high}

    def describe(self) -> dict[str, Any]:
        """Return everything, JSON-ready."""
        metric = self.metric
        return {
            "metric": "" if metric is None else metric.name,
            "higher_is_better": None if metric is None else metric.higher_is_better,
            "estimate": self.as_dict(),
            "interval": self.method,
            "level": self.level,
            "count": self.count,
            "units": self.different,
            "naive": None if self.naive is None else asdict(self.naive),
            "findings": [item.as_dict() for item in self.findings()],
            "counted": self._counted,
            "weight": self.weight,
            "weighed": "" if metric is None else metric.weighed,
            "also": {name: item.as_dict() for name, item in self.also.items()},
            "paths": list(self.paths),
        }

    @property
    def different(self) -> int:
        """Rows that are no copies of others."""
        return self.count if self.units is None else self.units

    @property
    def text(self) -> str:
        """The number with its interval, how that was made and on how many rows."""
        rows = number_of(self.count, self._counted.removesuffix("s"))
        rows += "" if self.different == self.count else f", {self.different} different"
        level = "" if self.low is None else f"{self.level:.0%}, "
        return f"{self.value:.4f}{between(self.low, self.high)} ({self.method}, {level}{rows})"

    def findings(self) -> tuple[Finding, ...]:
        """Return what must be known of this number: a model that guesses, and few rows."""
        found = [few_units(self.count, self.different, self._counted.removesuffix("s"))]
        if self.naive is not None and self.metric is not None:
            message = self.naive.finding(self.metric, self.value, self.low, self.high)
            weak = Finding(layer="", kind="weak-model", message=message)
            found.insert(0, weak if message else None)
        return tuple(item for item in found if item is not None)

    @property
    def place(self) -> str:
        """Where it was measured, in words: name, split, rows, counted tokens."""
        return "" if self.rows is None else place_of(self.rows)

    @property
    def _counted(self) -> str:
        return "sequences" if self.metric is None else self.metric.counted

    def __str__(self) -> str:
        lines = ["" if self.metric is None else f"{self.metric.name}: "]
        lines[0] += self.text
        lines += [f"{name}: {item.text}" for name, item in self.also.items()]
        weighed = self.metric is not None and self.metric.weighed
        return "\n".join([*lines, f"on {self.place}"] if weighed and self.place else lines)


def between(low: float | None, high: float | None, form: str = ".4f") -> str:
    """Return an interval in brackets behind a blank; nothing where there is none."""
    return "" if low is None or high is None else f" [{low:{form}}, {high:{form}}]"


def place_of(rows: DataSection) -> str:
    """Return where something was measured in words: text, split, rows, counted tokens."""
    how, parts = rows.details, [rows.name or "rows"]
    if "split" in how:
        parts.append(f"split {how['split']}")
    if "length" in how and rows.windows is not None:
        cut = f"{number_of(rows.windows, 'row')} of {how['length']} tokens"
        parts.append(cut + (f" at stride {how['stride']}" if "stride" in how else ", drawn"))
    if rows.scored_tokens is not None:
        parts.append(number_of(rows.scored_tokens, "counted token"))
    return ", ".join(parts)


def check_level(level: float) -> None:
    """Raise unless ``level`` is a confidence."""
    if not 0.0 < level < 1.0:
        raise InputError(f"level is {level}", allowed="a number between 0 and 1, e.g. 0.95")


def check_outcomes(outcomes: Outcomes, metric: Metric) -> None:
    """Raise unless there is something to measure, and all of it is finite."""
    if not len(outcomes):
        raise DataError(f"there are no {metric.counted} to measure on")
    if not bool(outcomes.numerator.isfinite().all()):
        raise NumericalError(f"the {metric.name} of at least one row is not finite")
    if not outcomes.total > 0:
        raise DataError(
            f"no {metric.weighed or 'weight'} in {metric.counted} to measure {metric.name} on",
            next_step="give longer rows",
        )


def wilson(successes: int, count: int, level: float = 0.95) -> Estimate:
    """Return a share with its Wilson score interval."""
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

    The same seed gives the same indices, whatever they are used on.
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


def bootstrap_ratios(
    outcomes: Sequence[Outcomes], *, seed: int, resamples: int
) -> Float64[Tensor, "r k"]:
    """Return the ratios of sums of some outcomes over bootstrap resamples of their rows.

    All outcomes are of the same rows and resampled alike; each has a column.
    """
    columns = [item.numerator for item in outcomes]
    weights = [item.weight for item in outcomes if item.weight is not None]
    means = bootstrap_means(torch.stack([*columns, *weights], 1), seed=seed, resamples=resamples)
    ratios, at = means[:, : len(columns)].clone(), len(columns)
    for column, item in enumerate(outcomes):
        if item.weight is not None:
            ratios[:, column] /= means[:, at]
            at += 1
    return ratios


def estimate(
    outcomes: Outcomes, metric: Metric, *, seed: int, level: float = 0.95, resamples: int = 10_000
) -> Estimate:
    """Return a metric with its interval: Wilson for a share of rows, else percentile bootstrap.

    The interval says how the number would vary over other rows of this kind, and nothing about
    other kinds.
    """
    check_level(level)
    check_outcomes(outcomes, metric)
    rows, outcomes = len(outcomes), outcomes.merged()
    also = {
        name: estimate(item, METRICS[name], seed=seed, level=level, resamples=resamples)
        for name, item in outcomes.also.items()
        if item.total > 0
    }
    if len(outcomes) < LEAST_UNITS:
        found = without_interval(metric.value(outcomes), level, 1)
    elif metric.proportion and outcomes.counts:
        found = wilson(round(float(outcomes.numerator.sum())), len(outcomes), level)
    else:
        draws = metric.of_ratio(bootstrap_ratios([outcomes], seed=seed, resamples=resamples)[:, 0])
        method = f"bootstrap, {resamples} resamples"
        found = interval(metric.value(outcomes), draws, level, method, len(outcomes))
    return replace(
        found, metric=metric, weight=outcomes.total, also=also, count=rows, units=len(outcomes)
    )


def without_interval(value: float, level: float, units: int) -> Estimate:
    """Return a number of which too few rows say how it varies."""
    method = f"no interval: {units} different {'row' if units == 1 else 'rows'}"
    return Estimate(value=value, low=None, high=None, level=level, method=method, count=units)


def interval(
    value: float, draws: Float64[Tensor, "r"], level: float, method: str, count: int
) -> Estimate:
    """Return a number with the percentile interval of its draws."""
    if not math.isfinite(value) or not bool(draws.isfinite().all()):
        raise NumericalError(
            "the metric of all rows, or of some that were drawn, is not finite",
            next_step="the model predicts nothing; check its weights",
        )
    low, high = (quantile(draws, (1 + side * level) / 2) for side in (-1, 1))
    return Estimate(value=value, low=low, high=high, level=level, method=method, count=count)


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

    ``plus`` and ``minus`` are the pairs in which only the first, or the second, succeeds; fractions
    are allowed, to look at larger test sets. Ends are in [−1, 1].

    Source: Tango, "Equivalence test and confidence interval for the difference in proportions
    for the paired-sample design", Statistics in Medicine 17 (1998), section 4.
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
