"""``ssmith demo``: shipped models cut, one adapted, and one page that lists it all."""

from __future__ import annotations

import argparse

from ssmith.cli import flags
from ssmith.cli.generated import words
from ssmith.cli.output import Output
from ssmith.core.receipt import Receipt


def add(subparsers: flags.Subparsers) -> None:
    """Add the command."""
    command = flags.Command(
        subparsers,
        "demo",
        about="cut shipped models, adapt the language model to prose, and show it all on one page",
        example="ssmith demo --out demo-out",
        run=run,
        kept=kept,
    )
    command.out("directory for each step's report and index.html")
    command.switch("--resume", "go on with an interrupted demo in --out")
    command.add(
        "--models",
        "shipped models (default: three of series, and the language model; see `ssmith list`)",
        kind=words,
        metavar="A,B",
        default=(),
    )


def kept(arguments: argparse.Namespace) -> str:
    """Say what an interrupted demo leaves."""
    if not arguments.out.exists():
        return "nothing was written"
    return f"finished stages are kept in {arguments.out}; go on with --resume"


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Run the demo; exit 0 whatever the gates say, for both answers are results."""
    from ssmith.jobs.demo import demo

    with output.progress() as progress:
        page, receipts = demo(
            arguments.out,
            names=arguments.models,
            resume=arguments.resume,
            overwrite=arguments.overwrite,
            progress=progress,
        )
    output.result({name: receipt.as_dict() for name, receipt in receipts.items()})
    for name, receipt in receipts.items():
        output.line(f"{name}: {said(receipt)}")
    output.line(f"report: {page}")
    return 0


def said(receipt: Receipt) -> str:
    """Return what a step came to, in one line."""
    from ssmith.report.losing import tuned_difference, tuned_measures
    from ssmith.report.summary import quality_number

    if receipt.verdict:
        word = "accepted" if receipt.verdict["accepted"] else "refused"
        return f"{word}: {receipt.verdict['headline']}"
    if receipt.action == "tune":
        named = [(name, tuned_difference(receipt, name)) for name in tuned_measures(receipt)]
        return "; ".join(f"{name.replace('_', ' ')} {shown}" for name, shown in named)
    shown = quality_number(receipt)
    return f"{shown.label.lower()} {shown.before} → {shown.value}, {shown.note}"
