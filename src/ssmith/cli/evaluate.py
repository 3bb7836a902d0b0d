"""``ssmith eval``: how good is a model?"""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

from ssmith.cli import flags
from ssmith.cli.output import Output
from ssmith.core.errors import InputError


def add(subparsers: flags.Subparsers) -> None:
    """Add the command."""
    parser = flags.command(
        subparsers,
        "eval",
        about="evaluate a model: its quality, with an interval",
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
    from ssmith.jobs.evaluate import EvaluateConfig, evaluate
    from ssmith.jobs.source import RowsConfig, reads_text

    if arguments.data is None and not hasattr(arguments, "lm_eval"):
        text = reads_text(arguments.model)
        raise InputError(
            "--data is missing",
            allowed=flags.DATA_HELP,
            next_step="try --data stdlib:"
            if text
            else "give your own file, or see `ssmith list` for named data",
        )
    config = replace(
        flags.config_of(EvaluateConfig, arguments), rows=flags.config_of(RowsConfig, arguments)
    )
    found = evaluate(arguments.model, arguments.data, config)
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
