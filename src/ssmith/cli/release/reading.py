"""``ssmith release history``, ``verify``, ``log``, ``export``: what a line tells."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ssmith.cli import flags
from ssmith.cli.output import Output
from ssmith.cli.release.shared import (
    VERSION_HELP,
    command,
    entry_as_dict,
    open_line,
    version_as_dict,
    who,
)

if TYPE_CHECKING:
    from ssmith.release.line import Line


def add(subparsers: flags.Subparsers) -> None:
    """Add the commands."""
    made = command(
        subparsers,
        "history",
        about="show what happened, or which version was live at a time",
        example="ssmith release history line --at 2026-11-01T09:00+09:00",
        run=history,
    )
    made.add("--at", "a time with its zone: 2026-11-01T09:00+09:00, …Z, or '… Asia/Tokyo'",
             metavar="TIME")  # fmt: skip
    made = command(
        subparsers,
        "verify",
        about="check the log, every file and signature, and what is live; exit 1 if one is wrong",
        example="ssmith release verify line",
        run=verify,
    )
    made.add("--expect", "head of the log that was kept elsewhere: shows entries that were cut off",
             metavar="HASH")  # fmt: skip
    made = command(
        subparsers,
        "log",
        about="print the log as it is kept: one JSON entry a line",
        example="ssmith release log line --head",
        run=log,
    )
    made.switch("--head", "print the digest of the last entry, to be kept elsewhere")
    made = command(
        subparsers,
        "export",
        about="write a version, its receipts and its manifest to a directory or a .tar",
        example="ssmith release export line live --out release.tar",
        run=export,
    )
    made.positional("VERSION", VERSION_HELP)
    made.out("the directory to make, or a file that ends in .tar")
    made = command(
        subparsers,
        "mirror",
        about="mirror every version in MLflow's registry (extra mlflow); may be repeated",
        example="ssmith release mirror line --uri http://127.0.0.1:5000",
        run=mirror,
    )
    made.add("--uri", "of the tracking server", metavar="URI", required=True)
    made.add("--name", "of the registered model (default: the line's)")


def mirror(arguments: argparse.Namespace, output: Output) -> int:
    """Bring a registry to what the line says."""
    from dataclasses import asdict

    from ssmith.release import mirror as mirrors
    from ssmith.release.version import short

    found = mirrors.mirror(open_line(arguments), arguments.uri, name=arguments.name)
    output.result(asdict(found))
    output.table(
        ("version", "number in the registry", "alias", "new"),
        [
            (
                short(digest), number,
                {found.champion: mirrors.CHAMPION, found.challenger: mirrors.CHALLENGER}.get(
                    digest, ""
                ),
                digest in found.made,
            )
            for digest, number in found.versions.items()
        ],
    )  # fmt: skip
    output.line(f"{found.name} at {found.uri}: {len(found.made)} new of {len(found.versions)}")
    return 0


def history(arguments: argparse.Namespace, output: Output) -> int:
    """Show the log, or one moment of it."""
    from ssmith.release.version import short

    line = open_line(arguments)
    if arguments.at is not None:
        return _at(line, arguments.at, output)
    entries, live = line.entries(), line.live
    output.result({
        "line": line.name, "head": entries[-1].digest,
        "live": None if live is None else version_as_dict(live),
        "versions": [version_as_dict(item) for item in line.versions()],
        "entries": [entry_as_dict(item) for item in entries],
    })  # fmt: skip
    output.table(
        ("entry", "time", "what", "version", "who", "why"),
        [
            (item.index, item.time[:19] + "Z", item.action,
             "" if item.version is None else short(item.version), who(item), item.reason)
            for item in entries
        ],
    )  # fmt: skip
    now = "none" if live is None else f"{short(live.digest)} {live.name}"
    output.line(f"live: {now}; head: {entries[-1].digest}")
    return 0


def verify(arguments: argparse.Namespace, output: Output) -> int:
    """Check a line."""
    from dataclasses import asdict

    from ssmith.release.verify import verify as check

    found = check(open_line(arguments), expect=arguments.expect)
    output.result({
        "passed": found.passed, "faults": [asdict(item) for item in found.faults],
        "entries": found.entries, "versions": found.versions, "files": found.files,
        "signed": found.signed, "head": found.head, "entries_since_expected": found.since,
        "lineage": [
            {"version": item.versions[0].digest, "text": item.text, "whole": item.whole}
            for item in found.lineage
        ],
    })  # fmt: skip
    for item in found.lineage:
        output.line(f"{'lineage' if item.whole else 'lineage, not whole'}: {item.text}")
    for fault in found.faults:
        output.line(f"wrong: {fault.where}: {fault.text}")
    if found.since is not None:
        output.line(f"entries since the expected head: {found.since}")
    output.line(
        f"entries: {found.entries}, {found.signed} of them signed; versions: {found.versions}; "
        f"files: {found.files}; head: {found.head}"
    )
    output.line("nothing is wrong" if found.passed else f"wrong: {len(found.faults)}")
    return 0 if found.passed else 1


def log(arguments: argparse.Namespace, output: Output) -> int:
    """Print the log, or its head."""
    line = open_line(arguments)
    entries = line.entries()
    if arguments.head:
        output.result({"head": line.head, "entries": len(entries)})
        output.exactly(line.head)
        return 0
    output.result({"head": line.head, "entries": [entry_as_dict(item) for item in entries]})
    for item in entries:
        # To the last blank, so that what is printed has the digests that it names.
        output.exactly(item.line().decode("utf-8"))
    return 0


def export(arguments: argparse.Namespace, output: Output) -> int:
    """Export a version."""
    from ssmith.release.export import export as write

    line = open_line(arguments)
    version = line.version(arguments.version)
    write(line, version, Path(arguments.out), overwrite=arguments.overwrite)
    output.result({"out": str(arguments.out), "version": version.digest})
    output.line(f"written: {arguments.out}")
    return 0


def _at(line: Line, text: str, output: Output) -> int:
    from ssmith.release.log import LIVE
    from ssmith.release.moments import moment_of, written

    moment = moment_of(text)
    until = written(moment)
    version = line.at(moment)
    since = [item for item in line.entries() if item.action in LIVE and item.time <= until]
    output.result({
        "at": until, "live": None if version is None else version.digest,
        "version": None if version is None else version_as_dict(version),
        "since": entry_as_dict(since[-1]) if since else None,
    })  # fmt: skip
    if version is None:
        output.line(f"at {until} no version was live")
        return 0
    output.line(f"at {until}: {version.digest} {version.name}")
    last = since[-1]
    output.line(f"since {last.time}: {last.action} by {who(last)}, entry {last.index}"
                + (f": {last.reason}" if last.reason else ""))  # fmt: skip
    output.line(f"its files: {version.path}")
    return 0
