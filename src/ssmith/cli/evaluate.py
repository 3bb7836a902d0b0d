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
    flags.add_text(parser)
    flags.add_batch_size(parser)
    flags.add_seed(parser, "the bootstrap, where the interval is one")


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Print the estimate."""
    from ssmith.jobs.text import reads_text

    return (_text if reads_text(arguments.model) else _sequences)(arguments, output)


def _text(arguments: argparse.Namespace, output: Output) -> int:
    from ssmith.jobs.text import TextConfig, measure_text

    flags.refuse_flags(arguments, ("metric",), "models of classes or numbers")
    config = flags.config_of(TextConfig, arguments)
    found = measure_text(arguments.model, arguments.data, config)
    output.result(found)
    for line in [*found["text"].splitlines(), *found["paths"]]:
        output.line(line)
    return 0


def _sequences(arguments: argparse.Namespace, output: Output) -> int:
    from ssmith.jobs.measure import MeasureConfig, measure

    flags.refuse_flags(arguments, flags.TEXT_FLAGS, "language models")
    found = measure(arguments.model, arguments.data, flags.config_of(MeasureConfig, arguments))
    output.result(found)
    estimate = found["estimate"]
    output.line(
        f"{found['metric']} on {found['split']}: {estimate['value']:.4f} "
        f"[{estimate['low']:.4f}, {estimate['high']:.4f}] "
        f"({found['interval']}, {found['level']:.0%}, {found['count']} sequences)"
    )
    return 0
