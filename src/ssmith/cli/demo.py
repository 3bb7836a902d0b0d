"""``ssmith demo``: a pilot of every shipped model, and one page that lists them."""

from __future__ import annotations

import argparse

from ssmith.cli import flags
from ssmith.cli.output import Output


def add(subparsers: flags.Subparsers) -> None:
    """Add the command."""
    parser = flags.command(
        subparsers,
        "demo",
        about="run the pilot on the shipped models, each on the data it was trained for",
        example="ssmith demo --out demo-out",
        run=run,
    )
    flags.add_out(parser, "directory for one pilot per model and index.html")
    parser.add_argument(
        "--resume", action="store_true", help="go on with an interrupted demo in --out"
    )
    parser.add_argument(
        "--models",
        type=flags.words,
        default=(),
        metavar="A,B",
        help="shipped models (default: all; see `ssmith list`)",
    )
    parser.set_defaults(kept=kept)


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
        verdict = receipt.verdict
        word = "accepted" if verdict["accepted"] else "refused"
        output.line(f"{name}: {word}: {verdict['headline']}")
    output.line(f"report: {page}")
    return 0
