"""``ssmith release promote``, ``rollback``: what is live."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import TYPE_CHECKING

from ssmith.cli import flags
from ssmith.cli.output import Output
from ssmith.cli.release.bringing import check_parity
from ssmith.cli.release.shared import (
    VERSION_HELP,
    command,
    entry_as_dict,
    key_of,
    open_line,
    rules_table,
    writes,
)

if TYPE_CHECKING:
    from ssmith.release.case import Rule
    from ssmith.release.line import Line
    from ssmith.release.version import Version


def add(subparsers: flags.Subparsers) -> None:
    """Add the commands."""
    made = command(
        subparsers,
        "promote",
        about="let a version go live if the policy's rules hold; exit 1 if one does not",
        example="ssmith release promote line 3f2a --reason 'pilot of June'",
        run=promote,
    )
    made.positional("VERSION", VERSION_HELP)
    made.switch("--override", "go on although rules do not hold, if the policy allows that; needs "
                "--reason, and stays visible")  # fmt: skip
    writes(made)
    made = command(
        subparsers,
        "check",
        about="say which rules a version meets; nothing is written, exit 1 if one does not hold",
        example="ssmith release check line 3f2a",
        run=check,
    )
    made.positional("VERSION", VERSION_HELP)
    made = command(
        subparsers,
        "rollback",
        about="go back to the version that was live before, or to a named one, in one exchange",
        example="ssmith release rollback line --reason 'alarms since noon'",
        run=rollback,
    )
    about = "a version that was live and is to be again (default: the one before)"
    made.positional("VERSION", about, required=False)
    writes(made)


def promote(arguments: argparse.Namespace, output: Output) -> int:
    """Promote a version."""
    from ssmith.release.promotion import promote as go_live
    from ssmith.release.version import short

    line, key = open_line(arguments), key_of(arguments)
    version = line.version(arguments.version)
    if not arguments.override:
        _run_parity(line, version, output)
    found = go_live(line, version, reason=arguments.reason, override=arguments.override, key=key)
    output.result({
        "promoted": found.promoted, "version": version.digest,
        "rules": [asdict(rule) for rule in found.rules], "never_waived": found.never_waived,
        "entry": None if found.entry is None else entry_as_dict(found.entry),
    })  # fmt: skip
    if found.entry is None:
        output.line(f"{short(version.digest)} is live already; nothing was changed")
        return 0
    _show(found.rules, output)
    words = {"promote": "live", "override": "live, by override", "refuse": "refused"}
    output.line(
        f"{words[found.entry.action]}: {short(version.digest)} {version.name}, "
        f"entry {found.entry.index}"
    )
    if arguments.override and not found.promoted:
        names = ", ".join(found.never_waived)
        output.line(
            f"an override never stands for {names}: settle that as said above, then give the same "
            "command again"
        )
    return 0 if found.promoted else 1


def check(arguments: argparse.Namespace, output: Output) -> int:
    """Show what the rules say."""
    from ssmith.release.promotion import rules_for

    line = open_line(arguments)
    version = line.version(arguments.version)
    rules = rules_for(line, version)
    holds = all(rule.passed for rule in rules)
    output.result({"version": version.digest, "holds": holds,
                   "rules": [asdict(rule) for rule in rules]})  # fmt: skip
    _show(rules, output)
    return 0 if holds else 1


def rollback(arguments: argparse.Namespace, output: Output) -> int:
    """Go back."""
    from ssmith.release.promotion import rollback as go_back
    from ssmith.release.version import short

    line, key = open_line(arguments), key_of(arguments)
    target = None if arguments.version is None else line.version(arguments.version)
    entry = go_back(line, target, reason=arguments.reason, key=key)
    version = line.version(str(entry.version))
    output.result({"version": entry.version, "before": entry.details["before"],
                   "entry": entry_as_dict(entry)})  # fmt: skip
    output.line(
        f"live: {short(version.digest)} {version.name}, before that "
        f"{short(entry.details['before'])}, entry {entry.index}"
    )
    return 0


def _show(rules: tuple[Rule, ...], output: Output) -> None:
    output.table(*rules_table(rules))
    for rule in rules:
        if rule.settle:
            output.line(f"{rule.name} would be settled by: {rule.settle}")


def _run_parity(line: Line, version: Version, output: Output) -> None:
    """Run what the policy asks for and nobody has run, if it is all that is missing."""
    from ssmith.release.promotion import rules_for

    open_rules = [rule for rule in rules_for(line, version) if not rule.passed]
    unsettled = [rule.name for rule in open_rules if rule.name != "signers"]
    if unsettled == ["parity"] and open_rules[0].found == "nothing":
        check_parity(line, version, output)
