"""``ssmith trial``: a new model beside the old one, on live rows."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ssmith.cli import flags
from ssmith.cli.generated import number
from ssmith.cli.output import Output
from ssmith.cli.recipe import config_of


def add(subparsers: flags.Subparsers) -> None:
    """Add the command."""
    command = flags.Command(
        subparsers,
        "trial",
        about="put a new model beside the old one on a stream of rows; exit 1 if it is worse",
        example="ssmith trial old new --mode shadow --data rows.jsonl --state trial",
        run=run,
        kept=lambda arguments: (
            f"what was read is kept in {arguments.state}; the same command goes on"
        ),
    )
    command.model("OLD")
    command.model("NEW")
    command.add(
        "--data",
        "rows: a .jsonl file that grows, a directory that fills with them, or - for standard "
        "input; each line has x, or the y that belongs to an earlier id, or both",
        required=True, metavar="STREAM",
    )  # fmt: skip
    command.add("--state", "directory that holds what is known", kind=Path, required=True,
                metavar="DIR")  # fmt: skip
    command.add("--every", "look for new rows every so many seconds, until it is decided",
                kind=number, metavar="X")  # fmt: skip
    command.add("--line", "write how things stand into this line", metavar="LINE")
    command.settings("ssmith.trials.live:LiveConfig")


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Run the trial on what there is; exit 1 if the new model is worse."""
    from ssmith.trials.follow import follow, sentence
    from ssmith.trials.live import LiveConfig

    config = config_of(LiveConfig, arguments)
    with output.progress() as progress:
        receipt, found = follow(
            (arguments.old, arguments.new),
            arguments.data,
            arguments.state,
            config,
            stdin=sys.stdin,
            every=arguments.every,
            line=arguments.line,
            command=arguments.command_line,
            progress=progress,
        )
    output.result(receipt.as_dict())
    output.line(f"{found.decision}: {sentence(found, config)}")
    share = found.disagreement
    if share is not None:
        output.line(
            f"disagreement: {share.value:.2%} [{share.low:.2%}, {share.high:.2%}] of "
            f"{found.rows} rows"
        )
    for name, count in found.counts.items():
        output.line(f"{name}: {count}")
    output.line(f"waiting for a label: {found.waiting}; state: {arguments.state}")
    return 1 if found.decision == "worse" else 0
