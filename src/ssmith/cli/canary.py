"""``ssmith canary``: does one request ever leak into another?"""

from __future__ import annotations

import argparse

from ssmith.cli import flags
from ssmith.cli.output import Output
from ssmith.cli.recipe import RECIPE, config_of, recipe_of


def add(subparsers: flags.Subparsers) -> None:
    """Add the command."""
    command = flags.Command(
        subparsers,
        "canary",
        about="interleave many requests; exit 1 with the two that leaked into each other",
        example="ssmith canary embedded:digits-s5 --requests 200",
        run=run,
    )
    command.positional(
        "CANDIDATE",
        f"the model: {flags.MODEL_HELP}; beside --url what it is in a line",
        required=False,
    )
    command.add("--line", "write what was seen into this line", metavar="LINE")
    command.out("directory for receipt.json and recipe.yaml", required=False)
    command.settings("ssmith.trials.canary.interleave:CanaryConfig")
    command.group("a running server", "in place of a model in this process")
    command.settings("ssmith.trials.canary.server:ServerConfig", under="server")


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Run the canary; exit 1 if a request leaked."""
    from ssmith.core.directories import new_directory, refuse_existing
    from ssmith.core.files import write_text
    from ssmith.jobs.outputs import RECEIPT
    from ssmith.trials.canary.job import CanaryJob, run_canary

    out = arguments.out
    if out is not None:
        refuse_existing(out, overwrite=arguments.overwrite)
    job = config_of(CanaryJob, arguments)
    with output.progress() as progress:
        receipt, headline = run_canary(
            arguments.candidate,
            job,
            line=arguments.line,
            command=arguments.command_line,
            progress=progress,
        )
    if out is not None:
        with new_directory(out, overwrite=arguments.overwrite) as scratch:
            receipt.save(scratch / RECEIPT)
            write_text(scratch / RECIPE, recipe_of(arguments, job))
    output.result(receipt.as_dict())
    passed: bool = receipt.details["passed"]
    output.line(f"{'passed' if passed else 'LEAK'}: {headline}")
    for leak in receipt.details["leaks"][1:]:
        output.line(f"LEAK: {leak['text']}")
    return 0 if passed else 1
