"""From a line's directory to its story, also where the log or a file was damaged."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from ssmith.core.errors import InputError, SsmithError
from ssmith.core.looks import LookReceipt
from ssmith.core.receipt import Receipt
from ssmith.core.settings import typed
from ssmith.dashboard.looks import LOOKS
from ssmith.dashboard.story import Added, Story, versions_of
from ssmith.release import log
from ssmith.release.change import LOG
from ssmith.release.line import Line, log_of
from ssmith.release.log import Entry
from ssmith.release.verify import verify
from ssmith.release.version import Version, kept_in


def read_story(path: str | Path) -> Story:
    """Read a line, without changing anything; what is damaged is among its story's checks.

    Raises `InputError` if there is no line, or nothing of its log can be read.
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
        looks=_looks(root, entries),
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


def _receipt(version: Version) -> Receipt | None:
    """Return what was measured of a version: as the line was told, or as it lies in its files.

    One that cannot be read is shown as not measured.
    """
    with suppress(SsmithError):
        if version.receipt is not None:
            return version.receipt
        for entry in reversed(version.evidence):
            for digest in reversed(entry.receipts):
                found = version.kept(digest)
                if found.action != "parity":
                    return found
        return Receipt.load(version.path)
    return None


def _looks(root: Path, entries: tuple[Entry, ...]) -> dict[str, LookReceipt]:
    """Return what looks found, by the digest of it; without what cannot be read."""
    found = {}
    for entry in entries:
        if entry.action in LOOKS:
            for digest in entry.receipts:
                with suppress(SsmithError):
                    content = kept_in(root, digest)
                    found[digest] = typed(
                        LookReceipt, content, where=digest, next_step="restore it from a copy"
                    )
    return found
