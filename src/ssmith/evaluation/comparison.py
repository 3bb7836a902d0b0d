"""Two models on the same rows: paired difference, interval, test and loss bounds."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from ssmith.core.errors import InputError
from ssmith.core.findings import Finding
from ssmith.core.sections import Agreement, Backends, LossTold, NaiveAnswer, QualitySection, Sides
from ssmith.evaluation.intervals import (
    LEAST_UNITS,
    Estimate,
    between,
    check_level,
    estimate,
    tango,
    two_sided_z,
    without_interval,
)
from ssmith.evaluation.metrics import Metric, Outcomes
from ssmith.evaluation.swaps import Swaps

_LARGEST_TEST_SET = 10**9


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A metric before and after, measured on the same rows.

    Args:
        metric: what was measured.
        before: the first model.
        after: the second model.
        difference: after − before, with a two-sided interval.
        increase: after / before − 1 of a metric whose losses are relative, else None.
        loss_lower_bound: the true loss is at least this, one-sided at ``difference.level``; None if
            too few rows say anything.
        loss_upper_bound: the true loss is at most this, None as above.
        p: two-sided p-value of "no difference".
        p_test: name of the test.
        agreement: who is right where (classification).
    """

    metric: Metric
    before: Estimate
    after: Estimate
    difference: Estimate
    increase: Estimate | None = None
    loss_lower_bound: float | None
    loss_upper_bound: float | None
    p: float
    p_test: str
    agreement: Agreement | None

    def __str__(self) -> str:
        change, shown = f"difference: {self.difference.text}", self.increase
        if shown is not None:
            change = f"change: {shown.value:+.2%}{between(shown.low, shown.high, '+.2%')}"
            change += f" ({shown.method})"
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

    def findings(self) -> tuple[Finding, ...]:
        """Return what must be known: a model that guessed before, and few rows."""
        return self.before.findings()

    @property
    def count(self) -> int:
        """Number of rows."""
        return self.before.count

    def count_to_prove(self, max_loss: float | int) -> int | None:
        """Return about how many sequences would prove a loss of at most ``max_loss``.

        Assumes that a larger test set shows the same loss and the same share of disagreements.

        None if no number would do.
        """
        if self.loss >= max_loss or self.loss_upper_bound is None:
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

    def section(self, *, split: str) -> QualitySection:
        """Return the quality section of a receipt."""
        metric, naive, paths = self.metric, self.before.naive, self.before.paths
        return QualitySection(
            metric=metric.name,
            higher_is_better=metric.higher_is_better,
            split=split,
            count=self.count,
            units=self.before.different,
            counted=metric.counted,
            share=metric.proportion,
            relative=metric.relative,
            naive=None if naive is None else NaiveAnswer(value=naive.value, answer=naive.answer),
            before=self.before.section(),
            after=self.after.section(),
            level=self.difference.level,
            interval=self.before.method,
            difference=self.difference.section(told=True),
            increase=None if self.increase is None else self.increase.section(told=True),
            loss=LossTold(
                value=self.loss,
                lower_bound=self.loss_lower_bound,
                upper_bound=self.loss_upper_bound,
            ),
            p=self.p,
            p_test=self.p_test,
            agreement=self.agreement,
            weight=self.before.weight if metric.weighed else None,
            weighed=metric.weighed,
            also={
                name: Sides(before=first.section(), after=self.after.also[name].section())
                for name, first in self.before.also.items()
            },
            paths=Backends(before=paths, after=self.after.paths) if paths else None,
        )


def one_sided_z(level: float) -> float:
    """Return the normal quantile of a one-sided bound."""
    return two_sided_z(2 * level - 1)


def _proves(table: Agreement, count: int, size: int, max_loss: float | int, z: float) -> bool:
    """Return whether ``size`` pairs with the same shares bound the loss by ``max_loss``."""
    scale = size / count
    upper = tango(table.only_before * scale, table.only_after * scale, size, z)[1]
    return upper <= max_loss


def mcnemar(only_before: int, only_after: int) -> float:
    """Return the two-sided p-value of McNemar's score test, which Tango's interval inverts.

    Source: Fagerland, Lydersen, Laake, "The McNemar test for binary matched-pairs data", BMC
    Medical Research Methodology 13 (2013), which recommends it with this interval.
    """
    if min(only_before, only_after) < 0:
        raise InputError(f"counts {only_before} and {only_after}", allowed="integers ≥ 0")
    count = only_before + only_after
    return math.erfc(abs(only_after - only_before) / math.sqrt(2 * count)) if count else 1.0


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

    A share of rows (accuracy) gets Tango's score interval for the difference and McNemar's score
    test; any other metric gets a paired permutation test, and the interval of all differences that
    it does not reject. Rows that are copies count as one. Exchanging the models changes the sign of
    the difference only.
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
    pair = before.merged(), after.merged()
    exact = metric.proportion and pair[0].counts and pair[1].counts
    build = _compare_shares if exact else _compare_ratios
    return build(pair, (both[0], both[1]), metric, seed=seed, resamples=resamples)


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
    difference = without_interval((plus - minus) / count, level, count)
    lower = upper = None
    if count >= LEAST_UNITS:
        low, high = tango(plus, minus, count, two_sided_z(level))
        method = "paired score interval (Tango)"
        difference = replace(difference, low=low, high=high, method=method)
        bounds = tango(plus, minus, count, one_sided_z(level))
        lower, upper = (-bounds[1], -bounds[0]) if metric.higher_is_better else bounds
    return Comparison(
        metric=metric,
        before=both[0],
        after=both[1],
        difference=replace(difference, count=both[0].count, units=count),
        loss_lower_bound=lower,
        loss_upper_bound=upper,
        p=mcnemar(table.only_before, table.only_after),
        p_test="McNemar, score",
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
    swaps = Swaps.draw(*outcomes, seed=seed, resamples=resamples)
    level, units, first = both[0].level, len(outcomes[0]), both[0].value
    slope = first + both[1].value

    def moved(shift: float) -> float:
        """Return how much the metric changes if its ratio of sums does by ``shift``."""
        if metric.link == "exp":
            return first * math.expm1(shift)
        # Of a root the chord: exchanging the models changes the sign and nothing else.
        return shift if metric.link == "identity" else shift / slope if slope else 0.0

    difference = without_interval(both[1].value - first, level, units)
    between, bounds = swaps.interval(level), swaps.interval(2 * level - 1)
    if between is not None:
        low, high = map(moved, between)
        method = f"paired permutation test inverted, {resamples} swaps"
        difference = replace(difference, low=low, high=high, method=method)
    difference = replace(difference, count=both[0].count, units=units)
    scale = abs(first) if metric.relative else 1.0
    losses = None
    if bounds is not None:
        ends = [moved(end) / scale for end in bounds]
        losses = (-ends[1], -ends[0]) if metric.higher_is_better else (ends[0], ends[1])
    return Comparison(
        metric=metric,
        before=both[0],
        after=both[1],
        difference=difference,
        increase=_scaled(difference, 1 / scale) if metric.relative else None,
        loss_lower_bound=None if losses is None else losses[0],
        loss_upper_bound=None if losses is None else losses[1],
        p=swaps.p(),
        p_test=f"paired permutation, {resamples} swaps",
        agreement=None,
    )


def _scaled(found: Estimate, factor: float) -> Estimate:
    ends = [None if end is None else factor * end for end in (found.low, found.high)]
    return replace(found, value=factor * found.value, low=ends[0], high=ends[1])
