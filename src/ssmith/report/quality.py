"""Quality before and after, and how far the two models agree."""

from __future__ import annotations

from dataclasses import dataclass

from ssmith.core.recall import recall_name
from ssmith.core.receipt import Receipt
from ssmith.core.sections import Measured, OwnQuality, QualitySection, TaskQuality
from ssmith.report.look import printable
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
    """The quality section: metric, before, after and difference in words, and sentences about it.

    Agreement is both right, only before, only after, both wrong; None if not measured.
    """

    rows: list[tuple[str, str, str, str]]
    notes: list[str]
    agreement: tuple[str, str, str, str] | None


def read_quality(receipt: Receipt) -> QualityRows:
    """Return the quality section of a receipt."""
    quality = receipt.compared
    rows = []
    if quality.before or quality.after:
        metric = printable(quality.metric) or "quality"
        shown = quality_format(metric)
        before, after = (
            with_interval(side, shown=shown) for side in (quality.before, quality.after)
        )
        change = difference_text(quality.difference, metric) or NOT_MEASURED
        rows.append((metric, before, after, change))
    if quality.own is not None:
        # Its unit is unknown.
        rows.append(_row(f"{quality.own.name or 'own metric'} (own metric)", "", quality.own))
    for task in quality.recall:
        far = "" if task.length is None else count(task.length)
        rows.append(_row(recall_name(task.task, far), task.metric, task))
    for task in quality.lm_eval:
        many = "" if task.count is None else f", {count(task.count)} documents"
        name = f"{task.task}, {task.metric} (lm-eval{many})"
        rows.append(_row(name, task.metric, task))
    return QualityRows(rows=rows, notes=_notes(quality), agreement=_agreement(quality))


def with_interval(found: Measured | None, *, shown: Format) -> str:
    """Return an estimate with its interval, in words."""
    if found is None:
        return NOT_MEASURED
    if found.low is None or found.high is None:
        return f"{shown(found.value)}, no interval"
    return f"{shown(found.value)} ({shown(found.low)} to {shown(found.high)})"


def _row(name: str, metric: str, found: OwnQuality | TaskQuality) -> tuple[str, str, str, str]:
    """Return the row of what is told beside the metric."""
    shown = quality_format(metric)
    change = difference_text(found.difference, metric)
    return printable(name), shown(found.before), shown(found.after), change


def _notes(quality: QualitySection) -> list[str]:
    notes = []
    if quality.split:
        noun = quality.counted or "sequences"
        many = "" if quality.count is None else f", {count(quality.count)} {noun}"
        notes.append(f"Measured on the {quality.split} split{many}.")
    paired = quality.difference.interval if quality.difference else ""
    if quality.level is not None:
        kinds = [quality.interval, paired and f"difference: {paired}"]
        how = "; ".join(filter(None, kinds))
        notes.append(f"Intervals at {percent(quality.level, 0)}{f' ({how})' if how else ''}.")
    if quality.p is not None:
        named = quality.p_test or "name not recorded"
        notes.append(f"Test of no difference ({named}): {p_value(quality.p)}.")
    elif quality != QualitySection():
        notes.append(f"p value: {NOT_MEASURED}.")
    if quality.higher_is_better is False:
        notes.append("Lower is better.")
    return [printable(note) for note in notes]


def _agreement(quality: QualitySection) -> tuple[str, str, str, str] | None:
    found = quality.agreement
    if found is None:
        return None
    return (
        count(found.both_right),
        count(found.only_before),
        count(found.only_after),
        count(found.both_wrong),
    )
