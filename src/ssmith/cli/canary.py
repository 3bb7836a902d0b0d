"""``ssmith canary``: does one request ever leak into another?"""

from __future__ import annotations

import argparse

from ssmith.cli import flags
from ssmith.cli.output import Output
from ssmith.cli.recipe import check_out, config_of, write_out


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
    from ssmith.core.details import CanaryDetails
    from ssmith.trials.canary.job import CanaryJob, run_canary

    check_out(arguments, *filter(None, [arguments.candidate]))
    job = config_of(CanaryJob, arguments)
    with output.progress() as progress:
        receipt, headline = run_canary(
            arguments.candidate,
            job,
            line=arguments.line,
            keep=lambda receipt: write_out(arguments, job, receipt),
            command=arguments.command_line,
            progress=progress,
        )
    output.result(receipt.as_dict())
    seen = receipt.details
    assert isinstance(seen, CanaryDetails)
    output.line(f"{'passed' if seen.passed else 'LEAK'}: {headline}")
    for leak in seen.leaks[1:]:
        output.line(f"LEAK: {leak.text}")
    return 0 if seen.passed else 1
