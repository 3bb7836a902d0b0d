"""What did not go well: refusals, losses beyond doubt, and costs that rose."""

from __future__ import annotations

from ssmith.core.receipt import Receipt
from ssmith.core.sections import Sides
from ssmith.core.times import GAIN
from ssmith.report.costs import read_memory, read_size, read_speed
from ssmith.report.look import printable
from ssmith.report.numbers import significant
from ssmith.report.summary import quality_number


def losing_cases(receipt: Receipt) -> list[str]:
    """Return one sentence for each thing a receipt shows that nobody would hope for.

    A refusal; quality that fell with the whole interval of the difference on the wrong side;
    measures of a tuning that did not fall; costs that rose by 5 % or more.
    """
    found = []
    if receipt.verdict.accepted is False:
        found.append(f"Refused. {printable(receipt.verdict.headline)}")
    return [*found, *_quality(receipt), *_measures(receipt), *_costs(receipt)]


def _quality(receipt: Receipt) -> list[str]:
    quality = receipt.compared
    gap = quality.difference
    if gap is None or gap.low is None or gap.high is None:
        return []
    worse = gap.high < 0 if quality.higher_is_better is not False else gap.low > 0
    if not worse:
        return []
    shown = quality_number(receipt)
    where = f" on {printable(receipt.data.name)}" if receipt.data.name else ""
    return [f"{shown.label} is worse{where}: {shown.before} → {shown.value}, {shown.note}."]


def _measures(receipt: Receipt) -> list[str]:
    return [
        f"Tuning did not lower {name.replace('_', ' ')}: {tuned_difference(found)}."
        for name, found in tuned_measures(receipt).items()
        if found.difference is not None and (found.difference.high or 0.0) >= 0
    ]


def _costs(receipt: Receipt) -> list[str]:
    every = [*read_speed(receipt), *read_memory(receipt), *read_size(receipt)]
    return [
        f"{cost.label[:1].upper()}{cost.label[1:]}: {cost.before} → {cost.after}, {cost.change}."
        for cost in every
        if cost.ratio is not None and cost.ratio >= 1 + GAIN
    ]


def tuned_measures(receipt: Receipt) -> dict[str, Sides]:
    """Return what a tuning was judged by, before and after, by printable names."""
    measures = receipt.tuned.measures.items()
    return {printable(name): found for name, found in measures if found.difference is not None}


def tuned_difference(found: Sides) -> str:
    """Return one measure of a tuning before and after, with the interval of the difference."""
    before, after, gap = found.before, found.after, found.difference
    if not (before and after and gap) or gap.low is None or gap.high is None:
        return "not measured"
    shown = [significant(value, 4) for value in (before.value, after.value, gap.low, gap.high)]
    return "{} → {} (difference {} to {})".format(*shown)
