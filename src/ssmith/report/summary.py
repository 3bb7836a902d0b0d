"""The first screen: verdict, headline, reasons and four numbers."""

from __future__ import annotations

from dataclasses import dataclass

from ssmith.core.receipt import Receipt
from ssmith.core.sections import Measured
from ssmith.report.costs import Cost, read_size, read_speed
from ssmith.report.look import printable
from ssmith.report.numbers import (
    NOT_MEASURED,
    count,
    difference_format,
    percent,
    quality_format,
)


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How something stands, in one word and one sentence; nothing said is None."""

    badge: str
    headline: str
    passed: bool | None = None


@dataclass(frozen=True, kw_only=True)
class BigNumber:
    """One of the four numbers, in words; empty where it was not measured, or nothing was before."""

    label: str
    before: str
    value: str
    note: str


@dataclass(frozen=True, kw_only=True)
class Gate:
    """One reason of the verdict; None where the receipt does not say whether it passed."""

    name: str
    passed: bool | None
    text: str

    @property
    def tone(self) -> str:
        """Name of the style, and what is read aloud."""
        return _tone(self.passed)


@dataclass(frozen=True, kw_only=True)
class Summary:
    """The first screen: model, verdict and numbers, its tone ``passed``, ``failed`` or ``open``."""

    title: str
    subtitle: str
    badge: str
    tone: str
    headline: str
    gates: list[Gate]
    numbers: list[BigNumber]


def read_summary(
    receipt: Receipt, usual: Standing, numbers: list[BigNumber] | None = None
) -> Summary:
    """Return the first screen of a receipt.

    ``usual`` is how it stands without a verdict; ``numbers`` are its own, where it has others.
    """
    verdict = receipt.verdict
    accepted = verdict.accepted
    badge = {True: "Accepted", False: "Refused", None: usual.badge}[accepted]
    return Summary(
        title=printable(receipt.model.name) or "Unnamed model",
        subtitle=_subtitle(receipt),
        badge=badge,
        tone=_tone(usual.passed if accepted is None else accepted),
        headline=printable(verdict.headline) or usual.headline,
        gates=[
            Gate(name=printable(item.gate), passed=item.passed, text=printable(item.text))
            for item in verdict.reasons
        ],
        numbers=numbers or usual_numbers(receipt),
    )


def usual_numbers(receipt: Receipt) -> list[BigNumber]:
    """Return what is removed, quality, file size and latency."""
    return [
        removed_number(receipt),
        quality_number(receipt),
        cost_number("File size", read_size(receipt)[0]),
        cost_number("Latency per batch", read_speed(receipt)[0]),
    ]


def removed_number(receipt: Receipt) -> BigNumber:
    """Return the share of removed states (or of the first unit the receipt names)."""
    unit = "states" if "states" in receipt.removed else next(iter(receipt.removed), "states")
    found = receipt.removed.get(unit)
    return BigNumber(
        label=f"{printable(unit).capitalize()} removed",
        before="",
        value="" if found is None else percent(found.fraction),
        note=f"{count(found.before)} → {count(found.after)}" if found else "",
    )


def quality_number(receipt: Receipt) -> BigNumber:
    """Return the quality before and after, with the interval of the difference."""
    quality = receipt.compared
    metric, before, after = printable(quality.metric), quality.before, quality.after
    shown = quality_format(metric)
    return BigNumber(
        label=f"{metric[:1].upper()}{metric[1:]}" or "Quality",
        before="" if before is None else shown(before.value),
        value="" if after is None else shown(after.value),
        note=difference_text(quality.difference, metric),
    )


def difference_text(found: Measured | None, metric: str) -> str:
    """Return a difference with its interval in words, empty if it was not measured."""
    if found is None:
        return ""
    shown = difference_format(metric)
    if found.low is None or found.high is None:
        return f"{shown(found.value)}, no interval"
    low, high = (shown(end).removesuffix("\u00a0points") for end in (found.low, found.high))
    return f"{shown(found.value)} ({low} to {high})"


def cost_number(label: str, cost: Cost) -> BigNumber:
    """Return a cost before and after, with its change in words."""
    if cost.pair is None:
        note = "" if cost.change == NOT_MEASURED else cost.change
        return BigNumber(label=label, before="", value="", note=note)
    return BigNumber(label=label, before=cost.before, value=cost.after, note=cost.change)


def _tone(passed: bool | None) -> str:
    return {True: "passed", False: "failed", None: "open"}[passed]


def _subtitle(receipt: Receipt) -> str:
    model, criterion = receipt.model, receipt.method.criterion.get("name", "")
    parts = (model.family, model.task, receipt.data.name, criterion)
    return " · ".join(printable(part) for part in parts if part)
