"""What the commands of a line have in common."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssmith.cli import flags
from ssmith.cli.generated import number

if TYPE_CHECKING:
    from ssmith.release.case import Rule
    from ssmith.release.keys import Key
    from ssmith.release.line import Line
    from ssmith.release.log import Entry
    from ssmith.release.version import Version

VERSION_HELP = "the first digits of its digest, four or more; or live, or newest"


def command(
    subparsers: flags.Subparsers, name: str, *, about: str, example: str, run: Callable[..., int]
) -> flags.Command:
    """Make a command on a line."""
    made = flags.Command(subparsers, name, about=about, example=example, run=run, kept=kept)
    made.positional("LINE", "directory of the line", kind=Path)
    return made


def writes(made: flags.Command, *, signs: bool = True) -> None:
    """Add the flags of a command that writes to the log."""
    made.add("--reason", "why, in words; it stays in the log", metavar="TEXT", default="")
    if signs:
        made.add("--key", "private key that signs the entry (extra sign)", kind=Path)
    made.add(
        "--wait", "seconds to wait for another writer (default: 60)", kind=number, metavar="X",
        default=60.0, in_recipe=False,
    )  # fmt: skip


def kept(arguments: argparse.Namespace) -> str:
    """Say what an interrupted command leaves."""
    return "the line is as it was before, or as it is after; see `ssmith release history`"


def open_line(arguments: argparse.Namespace) -> Line:
    """Open the line that is meant."""
    from ssmith.release.line import Line

    return Line.open(arguments.line, wait=getattr(arguments, "wait", 60.0))


def key_of(arguments: argparse.Namespace) -> Key | None:
    """Return the key that signs; None if nobody does."""
    from ssmith.release.keys import read_key

    return None if arguments.key is None else read_key(arguments.key)


def entry_as_dict(entry: Entry) -> dict[str, Any]:
    """Return an entry as a document shows it."""
    content = {**entry.content(), "receipts": list(entry.receipts)}
    return {**content, "signatures": [dict(item) for item in entry.signatures],
            "digest": entry.digest}  # fmt: skip


def version_as_dict(version: Version) -> dict[str, Any]:
    """Return a version as a document shows it."""
    return {
        "digest": version.digest,
        "name": version.name,
        "path": str(version.path),
        "kind": version.added.details.get("kind"),
        "tensors": version.tensors,
        "parent": version.parent,
        "base": version.base,
        "added": version.added.time,
    }


def rules_table(rules: tuple[Rule, ...]) -> tuple[tuple[str, ...], list[tuple[object, ...]]]:
    """Return the rules as a table."""
    return ("rule", "asked", "found", "holds"), [
        (rule.name, rule.asked, rule.found, rule.passed) for rule in rules
    ]


def who(entry: Entry) -> str:
    """Return who made an entry, and that nobody proved it where nobody did."""
    from ssmith.release.keys import short_key

    return short_key(entry.actor) if entry.signed else f"{entry.actor} (unsigned)"
