"""What receipts of audits, canaries, trials and merges say that no other receipt does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ssmith.core.details import (
    AuditDetails,
    CanaryDetails,
    GroupChanged,
    MergeDetails,
    TextAuditDetails,
    TrialDetails,
)
from ssmith.core.receipt import Receipt
from ssmith.core.sections import Measured
from ssmith.core.settings import to_mapping
from ssmith.report.facts import Fact
from ssmith.report.look import printable, text
from ssmith.report.numbers import Format, count, percent, quality_format, significant
from ssmith.report.quality import with_interval
from ssmith.report.summary import BigNumber, Standing

_MOST = 20
_COUNTED = ("leaks", "passed", "requests", "cancelled", "worst", "ties")
_SHOWN = ("mean", "interval", "decision", "rows", "units", "counts", "disagreement", "count")


@dataclass(frozen=True, kw_only=True)
class SeenRows:
    """A table of texts; its columns stand behind the first, which names the row."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True, kw_only=True)
class Sight:
    """What was seen; ``standing`` says how it stands if that is more than its kind says."""

    numbers: list[BigNumber]
    facts: list[Fact] = field(default_factory=list)
    tables: list[SeenRows] = field(default_factory=list)
    standing: Standing | None = None


def see_merge(receipt: Receipt) -> Sight:
    """Read what was written into a model, and how much an output changed by it."""
    merge = receipt.details.merge if isinstance(receipt.details, MergeDetails) else None
    written, held = (merge.merged, merge.held) if merge else ((), ())
    change, largest = (merge.difference, merge.output_size) if merge else (None, None)
    return Sight(
        numbers=[
            _number("Tensors written", len(written), count),
            _number("Offsets held beside them", len(held), count),
            _number(
                "Change of an output", change, lambda v: significant(v, 2),
                note="" if largest is None else f"of at most {significant(largest, 2)}",
            ),
            _number("Parameters", receipt.model.parameters, count),
        ],
        facts=_facts({"written": ", ".join(written), "held": ", ".join(held)}),
    )  # fmt: skip


def see_canary(receipt: Receipt) -> Sight:
    """Read whether a request leaked into another one."""
    found = receipt.details
    if not isinstance(found, CanaryDetails):
        return Sight(numbers=[])
    said = "Every request was" if found.passed else "A request was not"
    return Sight(
        numbers=[
            _number("Requests", found.requests, count),
            _number("Cancelled", found.cancelled, count),
            _number("Leaks", len(found.leaks), count),
            _number("Ties within rounding", found.ties, count)
            if found.worst is None
            else _number("Largest difference", found.worst, lambda v: significant(v, 2)),
        ],
        facts=_facts(
            {key: value for key, value in to_mapping(found).items() if key not in _COUNTED}
        ),
        tables=_tables("What leaked", (), [[printable(item.text)] for item in found.leaks]),
        standing=Standing(
            badge="Passed" if found.passed else "Leak", passed=found.passed,
            headline=f"{said} answered as it is alone.",
        ),
    )  # fmt: skip


def see_parity(receipt: Receipt) -> Sight:
    """Read whether every way to run a model gives the same numbers."""
    said = receipt.parity
    ways = [(name, worst, said.tolerances.get(name)) for name, worst in said.worst.items()]
    beyond = [name for name, worst, most in ways if worst is None or most is None or worst > most]
    return Sight(
        numbers=[
            _number("Ways compared", len(ways), count),
            _number("Ways that differ", len(beyond), count),
            _number("Ways left out", len(said.why_null), count),
        ],
        facts=_facts(said.why_null),
        tables=_tables(
            "Ways to run it",
            ("Way", "Largest difference", "Tolerance"),
            [
                [printable(name), *("" if one is None else significant(one, 2) for one in numbers)]
                for name, *numbers in ways
            ],
        ),
        standing=Standing(
            badge="Passed" if said.passed else "Differs", passed=said.passed,
            headline="Every way to run it gives the same numbers."
            if said.passed
            else "Not every way to run it gives the same numbers.",
        ),
    )  # fmt: skip


def see_trial(receipt: Receipt) -> Sight:
    """Read how a trial on a stream of rows stands."""
    found = receipt.details
    if not isinstance(found, TrialDetails):
        return Sight(numbers=[])
    ends, mean = found.interval, found.mean
    loss = None if mean is None else Measured(value=mean, low=ends.low, high=ends.high)
    numbers = [
        BigNumber(label="Decision", before="", value=printable(found.decision), note=""),
        _estimate("Loss of the new model", loss, shown=lambda v: significant(v, 3)),
        _number("Rows", found.rows, count),
        _number("Units", found.units, count)
        if found.disagreement is None
        else _estimate("Answers that differ", found.disagreement, shown=percent),
    ]
    return Sight(
        # Before the first decision there may be no loss to speak of.
        numbers=[item for item in numbers if item.value],
        facts=_facts({key: value for key, value in to_mapping(found).items() if key not in _SHOWN})
        + _facts(found.counts),
    )


def see_audit(receipt: Receipt) -> Sight:
    """Read what a new model does differently, in whole and by group."""
    found = receipt.details
    if isinstance(found, TextAuditDetails):
        return _text_audit(found)
    if not isinstance(found, AuditDetails):
        return Sight(numbers=[])
    metric, whole = printable(found.metric), found.whole
    form = quality_format(metric)
    classes = whole.broken is not None
    more = ("became wrong", "became right") if classes else ()
    columns = ("rows", "changed", f"loss of {metric}", *more)
    groups = [
        table
        for column, items in found.groups.items()
        for table in _tables(
            f"By {printable(column)}",
            columns,
            [_group(item, form, classes=classes) for item in items],
        )
    ]
    moves = [[printable(f"{item.from_} → {item.to}"), str(item.rows)] for item in found.moves]
    return Sight(
        numbers=[
            _estimate("Answers that changed", whole.changed, shown=percent),
            _estimate(f"Loss of {metric}", whole.loss, shown=form),
            _number("Became wrong", whole.broken, count)
            if classes
            else _number("Counts as another answer", found.moved, significant),
            _number("Rows", whole.rows, count),
        ],
        facts=_facts({f"change at quantile {key}": size for key, size in found.sizes.items()}),
        tables=[
            *groups,
            *_tables("What became what", ("rows",), moves),
            *_examples(found.examples),
        ],
    )


def _text_audit(found: TextAuditDetails) -> Sight:
    return Sight(
        numbers=[
            _estimate("Greedy tokens that agree", found.agreement, shown=percent),
            _estimate("KL(old ‖ new) per token, nats", found.divergence, shown=significant),
            _estimate("Written answers that differ", found.answers.changed, shown=percent),
            _number("Prompts", found.answers.prompts, count),
        ],
        tables=_examples(found.examples),
    )


def _examples(found: Sequence[dict[str, Any]]) -> list[SeenRows]:
    rows = [
        [", ".join(f"{key} {text(item[key])}" for key in item if key not in ("x", "tokens"))]
        for item in found
    ]
    return _tables("Examples", (), rows)


def _group(item: GroupChanged, form: Format, *, classes: bool) -> list[str]:
    counts = [text(item.broken), text(item.mended)] if classes else []
    changed = with_interval(item.changed, shown=percent)
    loss = with_interval(item.loss, shown=form)
    return [printable(item.name), str(item.rows), changed, loss, *counts]


def _number(label: str, value: float | None, shown: Format, note: str = "") -> BigNumber:
    said = "" if value is None else shown(value)
    return BigNumber(label=label, before="", value=said, note=note)


def _estimate(label: str, found: Measured | None, *, shown: Format) -> BigNumber:
    if found is None:
        return BigNumber(label=label, before="", value="", note="")
    ends = "no interval"
    if found.low is not None and found.high is not None:
        ends = f"({shown(found.low)} to {shown(found.high)})"
    return BigNumber(label=label, before="", value=shown(found.value), note=ends)


def _facts(values: Mapping[str, Any]) -> list[Fact]:
    said = {key: text(value) for key, value in values.items()}
    return [Fact(label=key.replace("_", " "), value=value) for key, value in said.items() if value]


def _tables(title: str, columns: tuple[str, ...], rows: list[list[str]]) -> list[SeenRows]:
    """Return a table of the first rows, or none if there is no row."""
    more = f" (the first {_MOST} of {len(rows)})" if len(rows) > _MOST else ""
    return [SeenRows(title=title + more, columns=columns, rows=rows[:_MOST])] if rows else []
