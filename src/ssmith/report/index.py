"""One page that lists several pilots."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from ssmith.core.files import write_text
from ssmith.core.receipt import Receipt
from ssmith.report.look import printable
from ssmith.report.summary import Summary, read_summary
from ssmith.report.template import fill


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One pilot of the list.

    Args:
        name: what users call it.
        link: address of its report, relative to the list.
        summary: the first screen of its report.
    """

    name: str
    link: str
    summary: Summary


def write_index(receipts: Sequence[tuple[str, Path, Receipt]], directory: Path) -> Path:
    """Write ``index.html``, a table of pilots with links to their reports.

    Args:
        receipts: name, report (its page or the directory that holds ``report.html``) and receipt
            of each pilot.
        directory: where to write; created if need be.

    Returns:
        Path of the page.

    Raises:
        MissingExtraError: if jinja2 is not installed.
        ArtefactError: if the disk refuses.
    """
    entries = [
        Entry(name=printable(name), link=_link(report, directory), summary=read_summary(receipt))
        for name, report, receipt in receipts
    ]
    accepted = sum(entry.summary.tone == "passed" for entry in entries)
    path = directory / "index.html"
    write_text(path, fill("index.html.j2", {"entries": entries, "accepted": accepted}))
    return path


def _link(report: Path, directory: Path) -> str:
    page = report if report.suffix == ".html" else report / "report.html"
    relative = Path(os.path.relpath(page, directory)).as_posix()
    return quote(relative, safe="/")
