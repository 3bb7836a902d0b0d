"""``ssmith compare``: two models on the same data."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from ssmith.cli import flags
from ssmith.cli.output import Output
from ssmith.cli.recipe import check_out, config_of, write_out
from ssmith.core.words import number_of

if TYPE_CHECKING:
    from ssmith.core.receipt import Receipt


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
    output.result(receipt.as_dict())
    quality = receipt.quality
    rows: list[tuple[object, ...]] = []
    for unit, facts in receipt.removed.items():
        text = f"{facts['fraction']:.1%} removed"
        rows.append((unit, _count(facts["before"]), _count(facts["after"]), text))
    rows.append(_quality_row(f"{quality['metric']}, {quality['split']}", quality))
    if quality["own"] is not None:
        own = quality["own"]
        values = {name: {"value": own[name]} for name in ("before", "after")}
        rows.append(_quality_row(own["name"], {**values, "difference": own["difference"]}))
    output.table(("", "before", "after", "change [interval]"), [*rows, *_cost_rows(receipt)])
    if "increase" in quality:
        change = quality["increase"]
        output.line(
            f"{quality['metric']} changes by {change['value']:+.2%}{_between(change, '+.2%')}, "
            f"{number_of(int(quality['weight']), 'counted token')}"
        )
    noun = quality["counted"].removesuffix("s")
    output.line(
        f"{quality['p_test']}: p = {quality['p']:.2g} on {number_of(quality['count'], noun)}; "
        f"intervals at {quality['level']:.0%}; a time has changed only if both its median and "
        "its least value have"
    )
    output.findings(receipt.findings)


def _cost_rows(receipt: Receipt) -> list[tuple[object, ...]]:
    texts = {item["name"]: item["text"] for item in receipt.details["changes"]}
    parameters = receipt.size["parameters"]
    rows: list[tuple[object, ...]] = [
        ("parameters", _count(parameters["before"]), _count(parameters["after"]), "")
    ]
    for name, section in (
        ("file", receipt.size["bytes"]),
        ("peak memory of a batch", receipt.memory["peak_forward_bytes"]),
        ("state per sequence", receipt.memory["state_bytes_per_sequence"]),
    ):
        if section["before"] is not None:
            numbers = (_count(section["before"]), _count(section["after"]))
            rows.append((f"{name}, bytes", *numbers, texts.get(name, "")))
    for name, section in (
        ("batch", receipt.speed["per_batch"]),
        ("step", receipt.speed["per_step"]),
    ):
        if section["before"] is not None:
            rows.append((f"{name}, ms (median)", *_milliseconds(section), texts.get(name, "")))
            rows.append((f"{name}, ms (least)", *_milliseconds(section["minimum"]), ""))
    return rows


def _quality_row(name: str, section: dict[str, Any]) -> tuple[object, ...]:
    difference = section["difference"]
    text = f"{difference['value']:+.4f}{_between(difference, '+.4f')}"
    before, after = (f"{section[key]['value']:.4f}" for key in ("before", "after"))
    return (name, before, after, text)


def _between(found: dict[str, Any], form: str) -> str:
    """Return an interval in brackets behind a blank; nothing where there is none."""
    low, high = found["low"], found["high"]
    return "" if low is None or high is None else f" [{low:{form}}, {high:{form}}]"


def _count(value: float) -> str:
    return f"{value:,.0f}"


def _milliseconds(section: dict[str, Any]) -> tuple[str, str]:
    return f"{1000 * section['before']:.4g}", f"{1000 * section['after']:.4g}"
