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
    )
    command.positional("RECEIPT", "receipt.json of any result, or its directory", kind=Path)
    command.out("directory for report.html and plots/")


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Write the page."""
    from ssmith.core.directories import new_directory
    from ssmith.core.receipt import Receipt
    from ssmith.report import write_report

    receipt = Receipt.load(arguments.receipt)
    with new_directory(arguments.out, overwrite=arguments.overwrite) as scratch:
        page = arguments.out / write_report(receipt, scratch).name
    output.result({"report": str(page)})
    output.line(f"report: {page}")
    return 0
