"""``ssmith compare``: two models on the same data."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from ssmith.cli import flags
from ssmith.cli.output import Output

if TYPE_CHECKING:
    from ssmith.core.receipt import Receipt


def add(subparsers: flags.Subparsers) -> None:
    """Add the command."""
    parser = flags.command(
        subparsers,
        "compare",
        about="compare two models on the same data: quality, speed, memory and size",
        example="ssmith compare embedded:digits-s5 pilot/model --data embedded:digits --out page",
        run=run,
    )
    flags.add_model(parser, "before")
    flags.add_model(parser, "after")
    flags.add_data(parser)
    flags.add_split(parser)
    flags.add_metric(parser)
    flags.add_own_metric(parser)
    flags.add_out(parser, "directory for receipt.json and report.html", required=False)
    flags.add_batch_size(parser)
    flags.add_speed(parser)
    flags.add_seed(parser, "resampling")


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Compare, print the table, and write the receipt and the page if a place is given."""
    from ssmith.core.files import new_directory, refuse_existing
    from ssmith.jobs.compare import CompareConfig, compare
    from ssmith.jobs.outputs import refuse_own_input
    from ssmith.report import write_report

    if arguments.out is not None:
        refuse_own_input(arguments.out, arguments.before, arguments.after, arguments.data)
        refuse_existing(arguments.out, overwrite=arguments.overwrite)
    config = flags.config_of(CompareConfig, arguments)
    with output.progress() as progress:
        receipt = compare(
            arguments.before,
            arguments.after,
            arguments.data,
            config,
            command=arguments.command_line,
            progress=progress,
        )
    if arguments.out is not None:
        with new_directory(arguments.out, overwrite=arguments.overwrite) as scratch:
            receipt.save(scratch / "receipt.json")
            write_report(receipt, scratch)
    _show(output, receipt)
    if arguments.out is not None:
        output.line(f"report: {arguments.out / 'report.html'}")
    return 0


def _show(output: Output, receipt: Receipt) -> None:
    output.result(receipt.as_dict())
    quality, removed = receipt.quality, receipt.removed.get("states")
    rows: list[tuple[object, ...]] = []
    if removed:
        rows.append(("states", str(removed["before"]), str(removed["after"]), ""))
    rows.append(_quality_row(f"{quality['metric']}, {quality['split']}", quality))
    if quality["own"] is not None:
        own = quality["own"]
        values = {name: {"value": own[name]} for name in ("before", "after")}
        rows.append(_quality_row(own["name"], {**values, "difference": own["difference"]}))
    for name, section, shown in (
        ("file, bytes", receipt.size["bytes"], _count),
        ("parameters", receipt.size["parameters"], _count),
        ("peak memory of a batch, bytes", receipt.memory["peak_forward_bytes"], _count),
        ("batch, ms", receipt.speed["per_batch"], _milliseconds),
        ("step, ms", receipt.speed["per_step"], _milliseconds),
    ):
        if section["before"] is not None:
            rows.append((name, shown(section["before"]), shown(section["after"]), ""))
    output.table(("", "before", "after", "difference [interval]"), rows)
    output.line(
        f"{quality['p_test']}: p = {quality['p']:.2g} on {quality['count']} sequences, "
        f"intervals at {quality['level']:.0%}"
    )
    for change in receipt.details["changes"]:
        output.line(change["text"])


def _quality_row(name: str, section: dict[str, Any]) -> tuple[object, ...]:
    difference = section["difference"]
    text = f"{difference['value']:+.4f}"
    if difference["low"] is not None:
        text += f" [{difference['low']:+.4f}, {difference['high']:+.4f}]"
    before, after = (f"{section[key]['value']:.4f}" for key in ("before", "after"))
    return (name, before, after, text)


def _count(value: float) -> str:
    return f"{value:,.0f}"


def _milliseconds(value: float) -> str:
    return f"{1000 * value:.4g}"
