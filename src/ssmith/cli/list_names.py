"""``ssmith list``: every name a command line can use."""

from __future__ import annotations

import argparse

from ssmith.cli import flags
from ssmith.cli.output import Output


def add(subparsers: flags.Subparsers) -> None:
    """Add the command."""
    flags.Command(
        subparsers,
        "list",
        about="list the models and data sets that come along, criteria and metrics",
        example="ssmith list --json",
        run=run,
    )


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Print the names."""
    from ssmith.jobs.catalogue import catalogue

    found = catalogue()
    output.result({kind: [dict(vars(entry)) for entry in found[kind]] for kind in found})
    output.table(
        ("kind", "name", "about"),
        [(kind, entry.name, entry.about) for kind in found for entry in found[kind]],
    )
    return 0
