"""What receipts of audits, canaries, trials and merges say that no other receipt does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ssmith.core.receipt import Receipt
from ssmith.report.facts import Fact
from ssmith.report.look import flag, items, mapping, number, printable, text
from ssmith.report.numbers import count, percent, quality_format, significant
from ssmith.report.summary import BigNumber, Standing
from ssmith.report.tuned import with_interval

_MOST = 20
_COUNTED = ("leaks", "passed", "requests", "cancelled", "worst", "ties")
_SHOWN = ("mean", "interval", "decision", "rows", "units", "counts", "disagreement", "count")


@dataclass(frozen=True, kw_only=True)
class SeenRows:
    """A table.

    Args:
        title: above it.
        columns: of numbers, behind the first, which names the row.
        rows: as texts.
    """

    title: str
    columns: tuple[str, ...]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True, kw_only=True)
class Sight:
    """What was seen.

    Args:
        numbers: the four of the first screen.
        facts: single values.
        tables: of groups, leaks and the like.
        standing: how it stands, if that is more than its kind says.
    """

    numbers: list[BigNumber]
    facts: list[Fact] = field(default_factory=list)
    tables: list[SeenRows] = field(default_factory=list)
    standing: Standing | None = None


def see_merge(receipt: Receipt) -> Sight:
    """Read what was written into a model, and how much an output changed by it."""
    merge = mapping(receipt.details, "merge")
    written, held = items(merge, "merged"), items(merge, "held")
    largest = number(merge, "output_size")
    return Sight(
        numbers=[
            _number("Tensors written", float(len(written)), count),
            _number("Offsets held beside them", float(len(held)), count),
            _number(
                "Change of an output", number(merge, "difference"), lambda v: significant(v, 2),
                note="" if largest is None else f"of at most {significant(largest, 2)}",
            ),
            _number("Parameters", number(receipt.model, "parameters"), count),
        ],
        facts=_facts({"written": text(merge, "merged"), "held": text(merge, "held")}),
    )  # fmt: skip


def see_canary(receipt: Receipt) -> Sight:
    """Read whether a request leaked into another one."""
    found, passed = receipt.details, flag(receipt.details, "passed")
    leaks = items(found, "leaks")
    said = {
        True: "Every request was answered as it is alone.",
        False: "A request was not answered as it is alone.",
    }
    local = "worst" in found
    return Sight(
        numbers=[
            _number("Requests", number(found, "requests"), count),
            _number("Cancelled", number(found, "cancelled"), count),
            _number("Leaks", float(len(leaks)), count),
            _number("Largest difference", number(found, "worst"), lambda v: significant(v, 2))
            if local
            else _number("Ties within rounding", number(found, "ties"), count),
        ],
        facts=_facts({key: found[key] for key in found if key not in _COUNTED}),
        tables=_tables("What leaked", (), [[text(item, "text")] for item in leaks]),
        standing=None
        if passed is None
        else Standing(
            badge="Passed" if passed else "Leak", passed=passed, headline=said[passed]
        ),
    )  # fmt: skip


def see_trial(receipt: Receipt) -> Sight:
    """Read how a trial on a stream of rows stands."""
    found = receipt.details
    ends = {end: number(found, "interval", end) for end in ("low", "high")}
    mean = {"loss": {"value": number(found, "mean"), **ends}}
    numbers = [
        BigNumber(label="Decision", before="", value=text(found, "decision"), note=""),
        _estimate("Loss of the new model", mean, "loss", shown=lambda v: significant(v, 3)),
        _number("Rows", number(found, "rows"), count),
        _estimate("Answers that differ", found, "disagreement", shown=percent)
        if "disagreement" in found
        else _number("Units", number(found, "units"), count),
    ]
    return Sight(
        # Before the first decision there may be no loss to speak of.
        numbers=[item for item in numbers if item.value],
        facts=_facts({key: value for key, value in found.items() if key not in _SHOWN})
        + _facts(mapping(found, "counts")),
    )


def see_audit(receipt: Receipt) -> Sight:
    """Read what a new model does differently, in whole and by group."""
    found = receipt.details
    examples = [
        [", ".join(f"{key} {text(item, key)}" for key in item if key not in ("x", "tokens"))]
        for item in items(found, "examples")
        if isinstance(item, dict)
    ]
    shown = _tables("Examples", (), examples)
    if "answers" in found:
        return _text_audit(found, shown)
    metric = text(found, "metric")
    form = quality_format(metric)
    whole = mapping(found, "whole")
    classes = number(whole, "broken") is not None
    more = ("became wrong", "became right") if classes else ()
    columns = ("rows", "changed", f"loss of {metric}", *more)
    groups = [
        table
        for column in mapping(found, "groups")
        for table in _tables(
            f"By {printable(column)}",
            columns,
            [_group(item, form, classes=classes) for item in items(found, "groups", column)],
        )
    ]
    moves = [
        [f"{text(m, 'from')} → {text(m, 'to')}", text(m, "rows")] for m in items(found, "moves")
    ]
    return Sight(
        numbers=[
            _estimate("Answers that changed", whole, "changed", shown=percent),
            _estimate(f"Loss of {metric}", whole, "loss", shown=form),
            _number("Became wrong", number(whole, "broken"), count)
            if classes
            else _number("Counts as another answer", number(found, "moved"), significant),
            _number("Rows", number(whole, "rows"), count),
        ],
        facts=_facts({f"change at quantile {k}": v for k, v in mapping(found, "sizes").items()}),
        tables=[*groups, *_tables("What became what", ("rows",), moves), *shown],
    )


def _text_audit(found: dict[str, Any], shown: list[SeenRows]) -> Sight:
    answers = mapping(found, "answers")
    return Sight(
        numbers=[
            _estimate("Greedy tokens that agree", found, "agreement", shown=percent),
            _estimate("KL(old ‖ new) per token, nats", found, "divergence", shown=significant),
            _estimate("Written answers that differ", answers, "changed", shown=percent),
            _number("Prompts", number(answers, "prompts"), count),
        ],
        tables=shown,
    )


def _group(item: Any, form: Any, *, classes: bool) -> list[str]:
    counts = [text(item, "broken"), text(item, "mended")] if classes else []
    changed = with_interval(item, "changed", shown=percent)
    loss = with_interval(item, "loss", shown=form)
    return [text(item, "name"), text(item, "rows"), changed, loss, *counts]


def _number(label: str, value: float | None, shown: Any, note: str = "") -> BigNumber:
    said = "" if value is None else shown(value)
    return BigNumber(label=label, before="", value=said, note=note)


def _estimate(label: str, section: Any, key: str, *, shown: Any) -> BigNumber:
    whole = with_interval(section, key, shown=shown)
    value, _, rest = whole.partition(" (")
    known = number(section, key, "value") is not None
    return BigNumber(
        label=label, before="", value=value.removesuffix(", no interval") if known else "",
        note=f"({rest}" if rest else "no interval" if known else "",
    )  # fmt: skip


def _facts(values: dict[str, Any]) -> list[Fact]:
    said = {key: text(values, key) for key in values}
    return [Fact(label=key.replace("_", " "), value=value) for key, value in said.items() if value]


def _tables(title: str, columns: tuple[str, ...], rows: list[list[str]]) -> list[SeenRows]:
    """Return a table of the first rows, or none if there is no row."""
    more = f" (the first {_MOST} of {len(rows)})" if len(rows) > _MOST else ""
    return [SeenRows(title=title + more, columns=columns, rows=rows[:_MOST])] if rows else []
