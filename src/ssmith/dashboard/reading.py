"""From a line's directory to its story, also where the log or a file was damaged."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ssmith.core.errors import InputError, SsmithError
from ssmith.core.receipt import RECEIPT
from ssmith.dashboard.story import Added, Story, versions_of
from ssmith.release import log
from ssmith.release.change import LOG
from ssmith.release.line import Line, log_of
from ssmith.release.log import Entry
from ssmith.release.verify import verify
from ssmith.release.version import Version, receipt_of


def read_story(path: str | Path) -> Story:
    """Read a line, without changing anything.

    Args:
        path: its directory.

    Returns:
        Its story; what is damaged is among its checks.

    Raises:
        InputError: if there is no line, or nothing of its log can be read.
    """
    root = Path(path)
    if not (root / LOG).is_file():
        raise InputError(
            f"there is no line at {root}",
            allowed=f"a directory that holds {LOG}",
            next_step=f"make one: `ssmith release init {root}`",
        )
    entries, _ = log.read(log_of(root))
    if not entries:
        raise InputError(f"{root / LOG}: no entry can be read", next_step="restore it from a copy")
    added = [item for item in entries if item.action == "add" and item.version]
    return Story(
        name=str(entries[0].details.get("name") or root.name),
        where=str(path),
        entries=entries,
        versions=versions_of(entries, [_added(root, item, entries) for item in added]),
        checked=verify(Line(path=root)),
        receipts=_receipts(root, entries),
    )


def _added(root: Path, added: Entry, entries: tuple[Entry, ...]) -> Added:
    of_it = [item for item in entries if item.version == added.version]
    evidence = tuple(item for item in of_it if item.action in ("add", "note"))
    version = Version(digest=str(added.version), root=root, added=added, evidence=evidence)
    return Added(
        digest=version.digest,
        directory=version.path,
        added=added,
        receipt=_receipt(version),
        model=version.tensors,
        parent=version.parent,
    )


def _receipt(version: Version) -> Mapping[str, Any] | None:
    """Return what was measured of a version: as the line was told, or as it lies in its files."""
    try:
        if version.receipt is not None:
            return version.receipt
        for entry in reversed(version.evidence):
            for digest in reversed(entry.receipts):
                return receipt_of(version.root, digest)
        inside = json.loads((version.path / RECEIPT).read_text(encoding="utf-8"))
    except (SsmithError, OSError, ValueError):
        return None
    return inside if isinstance(inside, dict) else None


def _receipts(root: Path, entries: tuple[Entry, ...]) -> dict[str, Mapping[str, Any]]:
    """Return the receipts of watches and the like that can be read."""
    found: dict[str, Mapping[str, Any]] = {}
    for entry in entries:
        if entry.action in log.EVIDENCE:
            for digest in entry.receipts:
                try:
                    found[digest] = receipt_of(root, digest)
                except SsmithError:
                    continue
    return found
