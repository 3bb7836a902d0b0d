"""Running what a page of documentation shows, from top to bottom."""

import re
import shlex
from pathlib import Path

from ssmith.cli.main import main

ROOT = Path(__file__).resolve().parents[2]
MADE_BY_MAKE = re.compile(r"^make ([\w-]+)")


def pages():
    """Return every page with code a user would run."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page):
    """Return the language and text of every fenced block."""
    return re.findall(r"^```(\w+)\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)


def run_page(page):
    """Run every Python block and every ``ssmith`` line in order, in the current directory.

    Python blocks share their names, as a reader's session does; `sh` blocks hold nothing but
    comments, ``ssmith`` and ``make``.
    """
    names = {"__name__": page.stem}
    for language, text in blocks(page):
        if language == "python":
            exec(compile(text, str(page), "exec"), names)
        elif language == "sh":
            for line in text.splitlines():
                run_line(line)


def run_line(line):
    words = shlex.split(line, comments=True)
    if not words or words[0] == "make":
        return
    assert words[0] == "ssmith", line
    code = main(words[1:])
    # A pilot may well refuse: 1 is an answer. 2 and above are not.
    assert code in (0, 1), line


def make_targets(page):
    found = []
    for language, text in blocks(page):
        if language == "sh":
            found += [m[1] for line in text.splitlines() if (m := MADE_BY_MAKE.match(line))]
    return found + re.findall(r"`make ([\w-]+)", page.read_text(encoding="utf-8"))
