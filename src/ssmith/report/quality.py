"""Quality before and after, and how far the two models agree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ssmith.core.receipt import Receipt
from ssmith.report.look import items, mapping, number, text
from ssmith.report.numbers import (
    NOT_MEASURED,
    Format,
    count,
    p_value,
    percent,
    quality_format,
)
from ssmith.report.summary import difference_text


@dataclass(frozen=True, kw_only=True)
class QualityRows:
    """The quality section.

    Args:
        rows: metric, before, after, difference, in words; empty if nothing was measured.
        notes: split, count, intervals and test, one sentence each.
        agreement: both right, only before, only after, both wrong; None if not measured.
    """

    rows: list[tuple[str, str, str, str]]
    notes: list[str]
    agreement: tuple[str, str, str, str] | None


def read_quality(receipt: Receipt) -> QualityRows:
    """Return the quality section of a receipt."""
    quality = receipt.quality
    rows = []
    if mapping(quality, "before") or mapping(quality, "after"):
        metric = text(quality, "metric") or "quality"
        shown = quality_format(metric)
        before, after = (_estimate(quality, side, shown) for side in ("before", "after"))
        rows.append((metric, before, after, difference_text(quality, metric) or NOT_MEASURED))
    own = mapping(quality, "own")
    if own:
        rows.append(_own(own))
    rows += [_task(row, _recall_name(row)) for row in items(quality, "recall")]
    rows += [_task(row, _harness_name(row)) for row in items(quality, "lm_eval")]
    return QualityRows(rows=rows, notes=_notes(quality), agreement=_agreement(quality))


def _estimate(quality: dict[str, Any], side: str, shown: Format) -> str:
    value = number(quality, side, "value")
    if value is None:
        return NOT_MEASURED
    low, high = number(quality, side, "low"), number(quality, side, "high")
    if low is None or high is None:
        return f"{shown(value)}, no interval"
    return f"{shown(value)} ({shown(low)} to {shown(high)})"


def _own(own: dict[str, Any]) -> tuple[str, str, str, str]:
    """Return the row of the user's own metric, whose unit is unknown."""
    name = text(own, "name") or "own metric"
    shown = quality_format("")
    values = [number(own, side) for side in ("before", "after")]
    before, after = (NOT_MEASURED if value is None else shown(value) for value in values)
    return f"{name} (own metric)", before, after, difference_text(own, "") or NOT_MEASURED


def _recall_name(row: Any) -> str:
    length = number(row, "length")
    far = "" if length is None else f" over {count(length)} tokens"
    return f"recall, {text(row, 'task')}{far}"


def _harness_name(row: Any) -> str:
    few = number(row, "count")
    many = "" if few is None else f", {count(few)} documents"
    return f"{text(row, 'task')}, {text(row, 'metric')} (lm-eval{many})"


def _task(row: Any, name: str) -> tuple[str, str, str, str]:
    """Return the row of one metric of a task."""
    metric = text(row, "metric")
    shown = quality_format(metric)
    values = [number(row, side) for side in ("before", "after")]
    before, after = (NOT_MEASURED if value is None else shown(value) for value in values)
    return name, before, after, difference_text(row, metric) or NOT_MEASURED


def _notes(quality: dict[str, Any]) -> list[str]:
    notes = []
    split, sequences = text(quality, "split"), number(quality, "count")
    if split:
        many = (
            ""
            if sequences is None
            else f", {count(sequences)} {text(quality, 'counted') or 'sequences'}"
        )
        notes.append(f"Measured on the {split} split{many}.")
    level, interval = number(quality, "level"), text(quality, "interval")
    paired = text(quality, "difference", "interval")
    if level is not None:
        kinds = "; ".join(part for part in (interval, paired and f"difference: {paired}") if part)
        notes.append(f"Intervals at {percent(level, 0)}{f' ({kinds})' if kinds else ''}.")
    p = number(quality, "p")
    if p is not None:
        named = text(quality, "p_test") or "name not recorded"
        notes.append(f"Test of no difference ({named}): {p_value(p)}.")
    elif quality:
        notes.append(f"p value: {NOT_MEASURED}.")
    if mapping(quality) and quality.get("higher_is_better") is False:
        notes.append("Lower is better.")
    return notes


def _agreement(quality: dict[str, Any]) -> tuple[str, str, str, str] | None:
    keys = ("both_right", "only_before", "only_after", "both_wrong")
    found = [number(quality, "agreement", key) for key in keys]
    if any(value is None for value in found):
        return None
    right, before, after, wrong = (count(value or 0.0) for value in found)
    return right, before, after, wrong
