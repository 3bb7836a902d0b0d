"""``ssmith release``: a line of versions: add, promote, go back, and know what was live when."""

from __future__ import annotations

import argparse

from ssmith.cli import flags
from ssmith.cli.release import agreeing, bringing, changing, reading

_EPILOG = """\
exit codes:
  0    done (promote: the version is live; verify: nothing is wrong)
  1    promote: a rule does not hold, which is written down; verify: something is wrong
  2    bad input, a damaged line, or a disk that refuses; nothing was changed
  3    an optional package is missing; the message names the extra
  75   another writer holds the line; the same command may do later

example:
  ssmith release init line; ssmith release add line pilot --reason "first cut"
"""


def add(subparsers: flags.Subparsers) -> None:
    """Add the command, with commands of its own."""
    about = "keep the versions of a model in a line: what went live when, why, and back again"
    parser = subparsers.add_parser(
        "release",
        help=about,
        description=f"{about[:1].upper()}{about[1:]}.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="subcommand", metavar="COMMAND", required=True)
    for part in (bringing, changing, reading, agreeing):
        part.add(commands)
