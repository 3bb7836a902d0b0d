"""The first screen: verdict, headline, reasons and four numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ssmith.core.receipt import Receipt
from ssmith.report.costs import Cost, read_size, read_speed
from ssmith.report.look import flag, items, mapping, number, pair, text
from ssmith.report.numbers import (
    NOT_MEASURED,
    count,
    difference_format,
    percent,
    quality_format,
)


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How something stands.

    Args:
        badge: in one word.
        headline: in one sentence.
        passed: whether it is good; None if nothing says.
    """

    badge: str
    headline: str
    passed: bool | None = None


@dataclass(frozen=True, kw_only=True)
class BigNumber:
    """One of the four numbers.

    Args:
        label: what it is.
        before: the old value in words, empty if there is none.
        value: the value itself, empty if it was not measured.
        note: what it means, in small print.
    """

    label: str
    before: str
    value: str
    note: str


@dataclass(frozen=True, kw_only=True)
class Gate:
    """One reason of the verdict.

    Args:
        name: the gate.
        passed: whether it passed, None if the receipt does not say.
        text: the reason in words.
    """

    name: str
    passed: bool | None
    text: str

    @property
    def tone(self) -> str:
        """Name of the style, and what is read aloud."""
        return _tone(self.passed)


@dataclass(frozen=True, kw_only=True)
class Summary:
    """The first screen.

    Args:
        title: name of the model.
        subtitle: family, task, data and method in one line.
        badge: verdict in one word.
        tone: style of the badge: ``passed``, ``failed`` or ``open``.
        headline: verdict in one sentence.
        gates: reasons.
        numbers: states removed, quality, file size, batch latency.
    """

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
    accepted = flag(receipt.verdict, "accepted")
    badge = {True: "Accepted", False: "Refused", None: usual.badge}[accepted]
    return Summary(
        title=text(receipt.model, "name") or "Unnamed model",
        subtitle=_subtitle(receipt),
        badge=badge,
        tone=_tone(usual.passed if accepted is None else accepted),
        headline=text(receipt.verdict, "headline") or usual.headline,
        gates=[_gate(entry) for entry in items(receipt.verdict, "reasons")],
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
    section = mapping(receipt.removed, unit)
    fraction, found = number(section, "fraction"), pair(section)
    if fraction is None and found and found.before > 0:
        fraction = 1 - found.after / found.before
    return BigNumber(
        label=f"{text({'unit': unit}, 'unit').capitalize()} removed",
        before="",
        value="" if fraction is None else percent(fraction),
        note=f"{count(found.before)} → {count(found.after)}" if found else "",
    )


def quality_number(receipt: Receipt) -> BigNumber:
    """Return the quality before and after, with the interval of the difference."""
    quality = receipt.quality
    metric = text(quality, "metric")
    before, after = number(quality, "before", "value"), number(quality, "after", "value")
    shown = quality_format(metric)
    return BigNumber(
        label=f"{metric[:1].upper()}{metric[1:]}" or "Quality",
        before="" if before is None else shown(before),
        value="" if after is None else shown(after),
        note=difference_text(quality, metric),
    )


def difference_text(section: dict[str, Any], metric: str) -> str:
    """Return a difference with its interval in words, empty if it was not measured."""
    value = number(section, "difference", "value")
    if value is None:
        return ""
    shown = difference_format(metric)
    low, high = number(section, "difference", "low"), number(section, "difference", "high")
    if low is None or high is None:
        return f"{shown(value)}, no interval"
    unit = "\u00a0points"
    return f"{shown(value)} ({shown(low).removesuffix(unit)} to {shown(high).removesuffix(unit)})"


def cost_number(label: str, cost: Cost) -> BigNumber:
    """Return a cost before and after, with its change in words."""
    if cost.pair is None:
        note = "" if cost.change == NOT_MEASURED else cost.change
        return BigNumber(label=label, before="", value="", note=note)
    return BigNumber(label=label, before=cost.before, value=cost.after, note=cost.change)


def _gate(entry: Any) -> Gate:
    return Gate(name=text(entry, "gate"), passed=flag(entry, "passed"), text=text(entry, "text"))


def _tone(passed: bool | None) -> str:
    return {True: "passed", False: "failed", None: "open"}[passed]


def _subtitle(receipt: Receipt) -> str:
    parts = [
        text(receipt.model, "family"),
        text(receipt.model, "task"),
        text(receipt.data, "name"),
        text(receipt.method, "criterion", "name"),
    ]
    return " · ".join(part for part in parts if part)
