"""``ssmith cycle``: verify, watch, renew if need be, prove, propose."""

from __future__ import annotations

import argparse
from pathlib import Path

from ssmith.cli import flags
from ssmith.cli.output import Output


def add(subparsers: flags.Subparsers) -> None:
    """Add the command."""
    command = flags.Command(
        subparsers,
        "cycle",
        about="care for a line once: verify, watch, make a new version if need be, and propose it",
        example="ssmith cycle line --config cycle.toml",
        run=run,
        kept=kept,
    )
    command.positional("LINE", "directory of the line", kind=Path)
    command.add("--config", "what is done: a TOML file", kind=Path, required=True)
    command.add("--work", "directory for what is made on the way; LINE.cycle if left out",
                kind=Path, metavar="DIR", in_recipe=False)  # fmt: skip


def kept(arguments: argparse.Namespace) -> str:
    """Say what an interrupted cycle leaves."""
    return "finished steps are in the log; the same command goes on behind them"


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Go through the steps; exit 1 where one asks for a person because something is not well."""
    from ssmith.cycle import read_cycle, run_cycle
    from ssmith.release.line import Line

    config = read_cycle(arguments.config)
    work = arguments.work or Path(f"{arguments.line}.cycle")
    line = Line.open(arguments.line)
    with output.progress() as progress:
        found = run_cycle(line, config, work, command=arguments.command_line, progress=progress)
    output.result(found.as_dict())
    if found.resumed:
        output.line(f"cycle {found.number} goes on")
    for step in found.steps:
        output.line(f"{step.name}: {step.text}")
    if found.last.next_step:
        output.line(f"next: {found.last.next_step}")
    return 0 if found.last.passed else 1
