"""``ssmith compare``: two models on the same data."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from ssmith.cli import flags
from ssmith.cli.output import Output
from ssmith.cli.recipe import check_out, config_of, write_out
from ssmith.core.words import number_of

if TYPE_CHECKING:
    from ssmith.core.receipt import Receipt
    from ssmith.core.sections import Measured, Pair, Timed


def add(subparsers: flags.Subparsers) -> None:
    """Add the command."""
    command = flags.Command(
        subparsers,
        "compare",
        about="compare two models on the same data: quality, speed, memory and size",
        example="ssmith compare embedded:digits-s5 pilot/model --data embedded:digits --out page",
        run=run,
    )
    command.model("BEFORE")
    command.model("AFTER")
    command.add("--data", flags.DATA_HELP, required=True)
    command.out("directory for receipt.json, recipe.yaml, report.html, …", required=False)
    command.settings("ssmith.jobs.source:RowsConfig", under="rows")
    command.settings("ssmith.jobs.compare:CompareConfig", but=("rows",))


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Compare, print the table, and write the receipt and the page if a place is given."""
    from ssmith.jobs.compare import CompareConfig, compare

    check_out(arguments, arguments.before, arguments.after, arguments.data, page=True)
    config = config_of(CompareConfig, arguments)
    with output.progress() as progress:
        receipt = compare(
            arguments.before,
            arguments.after,
            arguments.data,
            config,
            command=arguments.command_line,
            progress=progress,
        )
    write_out(arguments, config, receipt, page=True)
    _show(output, receipt)
    if arguments.out is not None:
        output.line(f"report: {arguments.out / 'report.html'}")
    return 0


def _show(output: Output, receipt: Receipt) -> None:
    from ssmith.core.recall import recall_name

    output.result(receipt.as_dict())
    quality = receipt.compared
    rows: list[tuple[object, ...]] = []
    for unit, facts in receipt.removed.items():
        text = f"{facts.fraction:.1%} removed"
        rows.append((unit, _count(facts.before), _count(facts.after), text))
    if quality.before and quality.after and quality.difference:
        values = (quality.before.value, quality.after.value)
        rows.append(_row(f"{quality.metric}, {quality.split}", values, quality.difference))
    own = quality.own
    if own is not None:
        rows.append(_row(own.name, (own.before, own.after), own.difference))
    for task in quality.recall:
        far = "" if task.length is None else _count(task.length)
        rows.append(_row(recall_name(task.task, far), (task.before, task.after), task.difference))
    output.table(("", "before", "after", "change [interval]"), [*rows, *_cost_rows(receipt)])
    change = quality.increase
    if change is not None:
        output.line(
            f"{quality.metric} changes by {change.value:+.2%}{_between(change, '+.2%')}, "
            f"{number_of(int(quality.weight or 0), 'counted token')}"
        )
    noun = quality.counted.removesuffix("s")
    output.line(
        f"{quality.p_test}: p = {quality.p:.2g} on {number_of(quality.count or 0, noun)}; "
        f"intervals at {quality.level:.0%}; a time has changed only if both its median and "
        "its least value have"
    )
    output.findings(receipt.findings)


def _cost_rows(receipt: Receipt) -> list[tuple[object, ...]]:
    from ssmith.core.details import CompareDetails
    from ssmith.core.sections import Pair, Timed

    told, size, memory = receipt.details, receipt.size, receipt.memory
    changes = told.changes if isinstance(told, CompareDetails) else ()
    texts = {item.name: item.text for item in changes}
    rows: list[tuple[object, ...]] = []
    for name, label, pair in (
        ("", "parameters", size.parameters),
        ("file", "file, bytes", size.bytes),
        ("peak memory of a batch", "peak memory of a batch, bytes", memory.peak_forward_bytes),
        ("state per sequence", "state per sequence, bytes", memory.state_bytes_per_sequence),
    ):
        if isinstance(pair, Pair):
            rows.append((label, _count(pair.before), _count(pair.after), texts.get(name, "")))
    for name, timed in (("batch", receipt.speed.per_batch), ("step", receipt.speed.per_step)):
        if isinstance(timed, Timed):
            rows.append((f"{name}, ms (median)", *_milliseconds(timed), texts.get(name, "")))
            if timed.minimum is not None:
                rows.append((f"{name}, ms (least)", *_milliseconds(timed.minimum), ""))
    return rows


def _row(name: str, values: tuple[float, float], difference: Measured) -> tuple[object, ...]:
    text = f"{difference.value:+.4f}{_between(difference, '+.4f')}"
    return (name, *(f"{value:.4f}" for value in values), text)


def _between(found: Measured, form: str) -> str:
    """Return an interval in brackets behind a blank; nothing where there is none."""
    low, high = found.low, found.high
    return "" if low is None or high is None else f" [{low:{form}}, {high:{form}}]"


def _count(value: float) -> str:
    return f"{value:,.0f}"


def _milliseconds(found: Pair | Timed) -> tuple[str, str]:
    return f"{1000 * found.before:.4g}", f"{1000 * found.after:.4g}"
