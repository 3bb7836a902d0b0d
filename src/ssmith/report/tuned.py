"""What a tuning learned: its measures before and after, what was trained, its curve."""

from __future__ import annotations

from ssmith.core.details import TunedDetails
from ssmith.core.receipt import Receipt
from ssmith.core.sections import Sides
from ssmith.report.facts import Fact
from ssmith.report.look import printable
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
from ssmith.report.quality import with_interval
from ssmith.report.summary import BigNumber


def tuned_numbers(receipt: Receipt) -> list[BigNumber]:
    """Return the four numbers of a tuning: what it gained, what it trained, how long it took."""
    share, trained = receipt.size.share, receipt.size.trained_parameters
    spent, best, steps = (
        receipt.speed.training_seconds,
        told(receipt).best_step,
        told(receipt).steps,
    )
    first, found = next(iter(measures(receipt).items()), ("loss", Sides()))
    row = measure_row(first, found)
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


def told(receipt: Receipt) -> TunedDetails:
    """Return what a tuning tells of itself; nothing of another action."""
    return receipt.details if isinstance(receipt.details, TunedDetails) else TunedDetails()


def measures(receipt: Receipt) -> dict[str, Sides]:
    """Return what a tuning was judged by; only after it where the head is new."""
    return tuned_measures(receipt) or receipt.tuned.measures


def measure_row(name: str, found: Sides) -> tuple[str, str, str, str]:
    """Return name, before, after and difference of one measure, in words."""
    return (
        printable(name).replace("_", " "),
        with_interval(found.before, shown=_plain),
        with_interval(found.after, shown=_plain),
        with_interval(found.difference, shown=lambda v: signed(v, _plain)),
    )


def _plain(value: float | int) -> str:
    return significant(value, 4)


def tuned_facts(receipt: Receipt) -> list[Fact]:
    """Return how a tuning was judged, and what else is known of it."""
    quality, found = receipt.tuned, []
    if quality.split and quality.count is not None:
        value = f"{printable(quality.split)}, {count(quality.count)} rows"
        found.append(Fact(label="judged on", value=value))
    if quality.interval:
        found.append(Fact(label="intervals", value=printable(quality.interval)))
    if quality.why_null:
        found.append(Fact(label="not judged", value=printable(quality.why_null)))
    if quality.answers is not None:
        for name, share in quality.answers.metrics.items():
            label = f"written answers, {printable(name)}"
            found.append(Fact(label=label, value=percent(share / 100)))
    for name, rate in receipt.method.rates.items():
        shown = f"{significant(rate.value)} ({printable(rate.source)})"
        found.append(Fact(label=f"rate of {printable(name)}", value=shown))
    if told(receipt).merge is not None:
        found.append(Fact(label="left as", value="a model, with what was trained written into it"))
    return found


def tuned_plots(receipt: Receipt) -> list[Plot]:
    """Return the curve of a tuning, wide and narrow; none if the receipt holds no look."""
    looks = [look for look in told(receipt).looks if "loss" in look.validation]
    best = told(receipt).best_step or 0
    both = (False, True) if looks else ()
    return [training_plot([], looks, best, narrow=narrow) for narrow in both]
