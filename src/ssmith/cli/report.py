"""``ssmith report``: a receipt as a page."""

from __future__ import annotations

import argparse
from pathlib import Path

from ssmith.cli import flags
from ssmith.cli.output import Output


def add(subparsers: flags.Subparsers) -> None:
    """Add the command."""
    command = flags.Command(
        subparsers,
        "report",
        about="render a receipt as an HTML page with its plots",
        example="ssmith report pilot/receipt.json --out page",
        run=run,
        kept=kept,
    )
    command.positional("RECEIPT", "receipt.json of any result", kind=Path)
    command.out("directory for report.html and plots/")


def kept(arguments: argparse.Namespace) -> str:
    """Say what an interrupted rendering leaves."""
    return f"plots in {arguments.out} may be new while the page is not; run the command again"


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Write the page."""
    from ssmith.core.files import refuse_existing
    from ssmith.core.receipt import Receipt
    from ssmith.report import write_report

    refuse_existing(arguments.out / "report.html", overwrite=arguments.overwrite)
    page = write_report(Receipt.load(arguments.receipt), arguments.out)
    output.result({"report": str(page)})
    output.line(f"report: {page}")
    return 0
