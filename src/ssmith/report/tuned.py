"""What a tuning learned: its measures before and after, what was trained, its curve."""

from __future__ import annotations

from typing import Any

from ssmith.core.receipt import Receipt
from ssmith.report.facts import Fact
from ssmith.report.look import items, mapping, number, printable, text
from ssmith.report.losing import tuned_measures
from ssmith.report.numbers import (
    NOT_MEASURED,
    count,
    percent,
    seconds,
    signed,
    significant,
)
from ssmith.report.plot import Plot
from ssmith.report.plot_training import training_plot
from ssmith.report.summary import BigNumber


def tuned_numbers(receipt: Receipt) -> list[BigNumber]:
    """Return the four numbers of a tuning: what it gained, what it trained, how long it took."""
    names = measures(receipt)
    share, trained = number(receipt.size, "share"), number(receipt.size, "trained_parameters")
    spent, best = number(receipt.speed, "training_seconds"), number(receipt.details, "best_step")
    steps = number(receipt.details, "steps")
    first = names[0] if names else "loss"
    row = measure_row(receipt, first)
    return [
        BigNumber(
            label=f"{first[:1].upper()}{first[1:]} on the test split".replace("_", " "),
            before="" if row[1] == NOT_MEASURED else row[1],
            value="" if row[2] == NOT_MEASURED else row[2],
            note="" if row[3] == NOT_MEASURED else row[3],
        ),
        BigNumber(
            label="Trained parameters",
            before="",
            value="" if trained is None else count(trained),
            note="" if share is None else f"{significant(100 * share, 2)}\u00a0% of all",
        ),
        BigNumber(
            label="Best step",
            before="",
            value="" if best is None else count(best),
            note="" if steps is None else f"of {count(steps)}",
        ),
        BigNumber(
            label="Time in training steps",
            before="",
            value="" if spent is None else seconds(spent),
            note="",
        ),
    ]


def measures(receipt: Receipt) -> list[str]:
    """Return the names of what a tuning was judged by; only after it where the head is new."""
    return tuned_measures(receipt) or [
        name for name in receipt.quality if mapping(receipt.quality, name, "after")
    ]


def measure_row(receipt: Receipt, name: str) -> tuple[str, str, str, str]:
    """Return name, before, after and difference of one measure, in words."""
    return (
        printable(name).replace("_", " "),
        with_interval(receipt.quality, name, "before", shown=_plain),
        with_interval(receipt.quality, name, "after", shown=_plain),
        with_interval(receipt.quality, name, "difference", shown=lambda v: signed(v, _plain)),
    )


def _plain(value: float | int) -> str:
    return significant(value, 4)


def with_interval(section: Any, *keys: str, shown: Any) -> str:
    """Return an estimate with its interval, in words."""
    value = number(section, *keys, "value")
    if value is None:
        return NOT_MEASURED
    ends = [number(section, *keys, end) for end in ("low", "high")]
    if ends[0] is None or ends[1] is None:
        return f"{shown(value)}, no interval"
    return f"{shown(value)} ({shown(ends[0])} to {shown(ends[1])})"


def tuned_facts(receipt: Receipt) -> list[Fact]:
    """Return how a tuning was judged, and what else is known of it."""
    quality, found = receipt.quality, []
    rows, split = number(quality, "count"), text(quality, "split")
    if split and rows is not None:
        found.append(Fact(label="judged on", value=f"{split}, {count(rows)} rows"))
    if text(quality, "interval"):
        found.append(Fact(label="intervals", value=text(quality, "interval")))
    if text(quality, "why_null"):
        found.append(Fact(label="not judged", value=text(quality, "why_null")))
    for name, value in mapping(quality, "answers", "metrics").items():
        shown = NOT_MEASURED if not isinstance(value, int | float) else percent(value / 100)
        found.append(Fact(label=f"written answers, {printable(name)}", value=shown))
    for name, rate in mapping(receipt.method, "rates").items():
        shown = f"{significant(number(rate, 'value') or 0.0)} ({text(rate, 'source')})"
        found.append(Fact(label=f"rate of {printable(name)}", value=shown))
    if mapping(receipt.details, "merge"):
        found.append(Fact(label="left as", value="a model, with what was trained written into it"))
    return found


def tuned_plots(receipt: Receipt) -> list[Plot]:
    """Return the curve of a tuning, wide and narrow; none if the receipt holds no look."""
    looks = [
        {"step": step, "validation": {"loss": loss}, "train_loss": number(look, "train_loss")}
        for look in items(receipt.details, "looks")
        if (step := number(look, "step")) is not None
        and (loss := number(look, "validation", "loss")) is not None
    ]
    best = int(number(receipt.details, "best_step") or 0)
    both = (False, True) if looks else ()
    return [training_plot([], looks, best, narrow=narrow) for narrow in both]
