"""``ssmith eval``: how good is a model?"""

from __future__ import annotations

import argparse

from ssmith.cli import flags
from ssmith.cli.output import Output


def add(subparsers: flags.Subparsers) -> None:
    """Add the command."""
    parser = flags.command(
        subparsers,
        "eval",
        about="measure a model's quality, with its interval",
        example="ssmith eval embedded:digits-s5 --data embedded:digits",
        run=run,
    )
    flags.add_model(parser)
    flags.add_data(parser)
    flags.add_split(parser)
    flags.add_metric(parser)
    flags.add_batch_size(parser)
    flags.add_seed(parser, "the bootstrap, where the interval is one")


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Print the estimate."""
    from ssmith.jobs.measure import MeasureConfig, measure

    found = measure(arguments.model, arguments.data, flags.config_of(MeasureConfig, arguments))
    output.result(found)
    estimate = found["estimate"]
    output.line(
        f"{found['metric']} on {found['split']}: {estimate['value']:.4f} "
        f"[{estimate['low']:.4f}, {estimate['high']:.4f}] "
        f"({found['interval']}, {found['level']:.0%}, {found['count']} sequences)"
    )
    return 0
