"""``ssmith eval``: how good is a model?"""

from __future__ import annotations

import argparse
from typing import Any

from ssmith.cli import flags
from ssmith.cli.output import Output
from ssmith.cli.recipe import config_of
from ssmith.core.errors import InputError
from ssmith.core.findings import findings_in


def add(subparsers: flags.Subparsers) -> None:
    """Add the command."""
    command = flags.Command(
        subparsers,
        "eval",
        about="evaluate a model: its quality, with an interval",
        example="ssmith eval embedded:digits-s5 --data embedded:digits",
        run=run,
    )
    command.model()
    command.add("--data", flags.DATA_HELP)
    command.settings("ssmith.jobs.source:RowsConfig", under="rows")
    command.settings("ssmith.jobs.evaluate:EvaluateConfig", but=("rows",))


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Print the estimate."""
    from ssmith.jobs.evaluate import EvaluateConfig, evaluate
    from ssmith.jobs.source import reads_text

    config = config_of(EvaluateConfig, arguments)
    if arguments.data is None and not config.lm_eval:
        text = reads_text(arguments.model)
        raise InputError(
            "--data is missing",
            allowed=flags.DATA_HELP,
            next_step="try --data stdlib:"
            if text
            else "give your own file, or see `ssmith list` for named data",
        )
    found = evaluate(arguments.model, arguments.data, config)
    output.result(found)
    for line in [*found.get("text", "").splitlines(), *found.get("paths", ())]:
        output.line(line)
    output.findings(findings_in(found))
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
