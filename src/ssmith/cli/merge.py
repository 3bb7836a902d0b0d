"""``ssmith merge``: an adapter written into its base."""

from __future__ import annotations

import argparse

from ssmith.cli import flags
from ssmith.cli.output import Output
from ssmith.cli.recipe import check_out, config_of, recipe_of


def add(subparsers: flags.Subparsers) -> None:
    """Add the command."""
    command = flags.Command(
        subparsers,
        "merge",
        about="write an adapter into its base, where that is exact, and save the model",
        example="ssmith merge tuned --out merged",
        run=run,
    )
    command.model("ADAPTER")
    command.out("directory of the model to make")
    command.settings("ssmith.jobs.merge:MergeConfig")


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Merge, save and say what was written."""
    from ssmith.jobs.merge import MergeConfig, merge

    check_out(arguments, arguments.adapter)
    config = config_of(MergeConfig, arguments)
    receipt, said = merge(
        arguments.adapter,
        config,
        arguments.out,
        overwrite=arguments.overwrite,
        command=arguments.command_line,
        recipe=recipe_of(arguments, config),
    )
    output.result({"model": str(arguments.out), "receipt": receipt.as_dict()})
    output.line(said)
    output.line(f"model: {arguments.out}")
    return 0
