"""``ssmith eval``: how good is a model?"""

from __future__ import annotations

import argparse
from typing import Any

from ssmith.cli import flags
from ssmith.cli.output import Output
from ssmith.core.errors import InputError
from ssmith.core.words import number_of


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
    flags.add_data(parser, required=False)
    flags.add_split(parser)
    flags.add_metric(parser)
    flags.add_lm_eval(flags.add_text(parser))
    flags.add_batch_size(parser)
    flags.add_seed(parser, "the bootstrap, where the interval is one")


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Print the estimate."""
    from ssmith.jobs.text import reads_text

    text = reads_text(arguments.model)
    if arguments.data is None and not (text and hasattr(arguments, "lm_eval")):
        raise InputError(
            "--data is missing",
            allowed=flags.DATA_HELP,
            next_step="try --data stdlib:"
            if text
            else "give your own file, or see `ssmith list` for named data",
        )
    return (_text if text else _sequences)(arguments, output)


def _text(arguments: argparse.Namespace, output: Output) -> int:
    from ssmith.jobs.harness import harness_config
    from ssmith.jobs.text import TextConfig, measure_text

    flags.refuse_flags(arguments, ("metric",), "models of classes or numbers")
    config = flags.config_of(TextConfig, arguments)
    given = {name: getattr(arguments, name, None) for name in flags.HARNESS_FLAGS}
    harness = harness_config(**given, batch_size=config.batch_size, seed=config.seed)
    found = measure_text(arguments.model, arguments.data, config, harness=harness)
    output.result(found)
    for line in [*found.get("text", "").splitlines(), *found.get("paths", ())]:
        output.line(line)
    if found["lm_eval"]:
        output.table(
            ("task", "metric", "value", "documents"),
            [
                (row["task"], row["metric"], _with_error(row), str(row["count"]))
                for row in found["lm_eval"]
            ],
        )
    return 0


def _with_error(row: dict[str, Any]) -> str:
    error = row["standard_error"]
    return f"{row['value']:.4f}" + ("" if error is None else f" ± {error:.4f} (standard error)")


def _sequences(arguments: argparse.Namespace, output: Output) -> int:
    from ssmith.jobs.measure import MeasureConfig, measure

    flags.refuse_flags(arguments, (*flags.TEXT_FLAGS, *flags.HARNESS_FLAGS), "language models")
    found = measure(arguments.model, arguments.data, flags.config_of(MeasureConfig, arguments))
    output.result(found)
    estimate = found["estimate"]
    output.line(
        f"{found['metric']} on {found['split']}: {estimate['value']:.4f} "
        f"[{estimate['low']:.4f}, {estimate['high']:.4f}] "
        f"({found['interval']}, {found['level']:.0%}, {number_of(found['count'], 'sequence')})"
    )
    return 0
