"""``ssmith parity``: does a model give the same numbers whichever way it is run?"""

from __future__ import annotations

import argparse

from ssmith.cli import flags
from ssmith.cli.output import Output


def add(subparsers: flags.Subparsers) -> None:
    """Add the command."""
    parser = flags.command(
        subparsers,
        "parity",
        about="run a model every way there is and compare; exit 1 if a tolerance is broken",
        example="ssmith parity embedded:digits-s5",
        run=run,
    )
    flags.add_model(parser)
    parser.add_argument(
        "--stock",
        action="store_true",
        help="run a Hugging Face model's own code instead of the engine, to see what it does",
    )
    parser.add_argument(
        "--length",
        type=flags.whole,
        default=argparse.SUPPRESS,
        metavar="N",
        help="steps of each sequence, at least 16 (default: 40)",
    )
    parser.add_argument(
        "--batch",
        type=flags.whole,
        default=argparse.SUPPRESS,
        metavar="N",
        help="sequences, at least 2 (default: 2)",
    )
    parser.add_argument(
        "--require-backend",
        dest="backend",
        default=argparse.SUPPRESS,
        metavar="NAME",
        help="stop unless the scan takes this path: reference, torch, native or triton",
    )
    flags.add_seed(parser, "the random input")


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Print which path runs, then one row per comparison."""
    from ssmith import api

    config = flags.config_of(api.PathParityConfig, arguments)
    found = api.check_paths(api.load(arguments.model), config)
    output.result({"name": arguments.model, **found.as_dict()})
    if found.stock:
        output.line("stock code, without the engine")
    for path in found.paths:
        remedy = f"; faster: {path['remedy']}" if path["remedy"] else ""
        output.line(f"{path['op']} runs on {path['backend']}: {path['reason']}{remedy}")
    output.table(
        ("compared", "worst difference", "tolerance", "agrees"),
        [(item.name, item.difference, item.tolerance, item.passed) for item in found.checks],
    )
    for name, reason in found.left_out:
        output.line(f"not compared: {name}; {reason}")
    failed = sum(not item.passed for item in found.checks)
    output.line(
        f"{failed} of {len(found.checks)} ways disagree"
        if failed
        else f"every way agrees; nearest to its tolerance: {found.worst.name}"
    )
    return 0 if found.passed else 1
