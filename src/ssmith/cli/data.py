"""``ssmith data``: what a source holds, before any training."""

from __future__ import annotations

import argparse
from pathlib import Path

from ssmith.cli import flags
from ssmith.cli.output import Output
from ssmith.cli.recipe import given_settings
from ssmith.core.findings import findings_in

SOURCE_HELP = (
    "a table (.csv, .parquet, …), a folder of tables, sound or images, .npz, .ts, .arff, .mat"
)


def add(subparsers: flags.Subparsers) -> None:
    """Add the command."""
    command = flags.Command(
        subparsers,
        "data",
        about="look at data before any training: what it holds, what looks wrong, pictures",
        example="ssmith data plant.csv --sequence machine --time ts --label state --report look",
        run=run,
    )
    command.positional("SOURCE", SOURCE_HELP)
    command.add(
        "--report",
        "directory for data.html, its pictures and their data",
        kind=Path,
        metavar="DIR",
        in_recipe=False,
    )
    command.switch("--overwrite", "replace what is there")
    command.group("recordings", "what is in the columns, and how they become rows")
    command.settings("ssmith.core.preparation:PrepareConfig", called=flags.PREPARE)


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Print the facts, and write the page if a place is given."""
    from dataclasses import fields

    from ssmith.core.errors import InputError
    from ssmith.core.preparation import PrepareConfig
    from ssmith.core.settings import from_mapping
    from ssmith.jobs.data import look
    from ssmith.report.data_page import COLUMNS, channel_rows, headline

    if arguments.overwrite and arguments.report is None:
        raise InputError("--overwrite without --report", next_step="say what is to be replaced")
    names = {item.name for item in fields(PrepareConfig)}
    config = from_mapping(
        PrepareConfig, given_settings(arguments, names, of="data"), where="ssmith data"
    )
    facts = look(arguments.source, config, arguments.report, overwrite=arguments.overwrite)
    output.result(facts)
    output.line(headline(facts))
    output.table(("channel", "unit", *COLUMNS), channel_rows(facts))
    output.findings(findings_in(facts))
    if arguments.report is not None:
        output.line(f"page: {arguments.report / 'data.html'}")
    return 0
