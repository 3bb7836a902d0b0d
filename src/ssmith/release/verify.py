"""Check a line: the chain of its log, every file it keeps, what is live, and who signed."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssmith.core.errors import SsmithError
from ssmith.core.files import read_json
from ssmith.release import change as changes
from ssmith.release import lock, log
from ssmith.release.approvals import approvals
from ssmith.release.change import LOG
from ssmith.release.disk import file_digest, hex_of
from ssmith.release.evidence import of_version
from ssmith.release.keys import short_key, signed_by
from ssmith.release.line import Line, counted_in, log_of, policy_at
from ssmith.release.lineage import Lineage, lineage_of
from ssmith.release.log import LIVE, Entry
from ssmith.release.manifest import MANIFESTS, faults, kept_manifest
from ssmith.release.version import COUNTS, PROFILES, RECEIPTS, VERSIONS, Version, live_in, short
from ssmith.release.writing import ABOUT, LIVE_LINK, about

_ROOMS = (VERSIONS, MANIFESTS, RECEIPTS, PROFILES)
_TRIES, _PAUSE = 5, 0.2


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What is wrong, and where: an entry, or a path below the line."""

    where: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What a check of a line found: faults, counts, and the way of each version to its beginning.

    ``signed`` are entries, ``head`` is the digest of the log's last line, ``since`` counts entries
    after the one that was expected; None if none was.
    """

    faults: tuple[Fault, ...]
    entries: int
    versions: int
    files: int
    signed: int
    head: str
    since: int | None
    lineage: tuple[Lineage, ...]

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong."""
        return not self.faults


def verify(line: Line, *, expect: str | None = None) -> Checked:
    """Check a line.

    Args:
        line: the line.
        expect: digest of a log's last line that was kept elsewhere; without it nobody can see
            whether the newest entries were cut off.

    Returns:
        What was found; one thing that is wrong keeps nothing else from being checked.

    Raises:
        MissingExtraError: if there are signatures, and the package that checks them is missing.
    """
    root = line.path
    entries, damages = log.read(log_of(root))
    found = [Fault(where=f"{LOG}, entry {item.index}", text=item.text) for item in damages]
    digests = [item.digest for item in entries]
    since = None
    if expect is not None:
        if expect in digests:
            since = len(digests) - 1 - digests.index(expect)
        else:
            text = f"no entry has the digest {expect}: entries were cut off, or written anew"
            found.append(Fault(where=LOG, text=text))
    # Where an entry cannot be read, what follows from the log would be wrong for that alone.
    readable = bool(entries) and entries[0].action == "init" and not damages
    if readable:
        found += _places(root)
        found += _entries(entries)
    added = [item for item in entries if item.action == "add" and item.version is not None]
    kept = {str(item.version): _manifest_of(root, str(item.version)) for item in added}
    for digest, manifest in kept.items():
        found += _version(root, digest, manifest)
    found += [fault for item in entries for fault in _papers(root, item)]
    versions = line.versions() if readable else ()
    found += [fault for item in versions for fault in _names(item)]
    return Checked(
        faults=tuple(dict.fromkeys(found)),
        entries=len(entries),
        versions=len(added),
        files=sum(len(item.files) for item in kept.values() if not isinstance(item, Fault)),
        signed=sum(item.signed for item in entries),
        head=digests[-1] if digests else "",
        since=since,
        lineage=tuple(lineage_of(item, versions) for item in versions),
    )


def _places(root: Path) -> list[Fault]:
    """Check what is not named by its content; look again where a writer was at work meanwhile."""
    found: list[Fault] = []
    for _ in range(_TRIES):
        before = log_of(root)
        found = [*_live(root), *_strangers(root), *_counts(root)]
        if not found or (before == log_of(root) and not changes.has_leftovers(root)):
            break
        time.sleep(_PAUSE)
    return found


def _live(root: Path) -> Iterator[Fault]:
    entries, _ = log.read(log_of(root))
    digest, link = live_in(entries), root / LIVE_LINK
    wanted = None if digest is None else f"{VERSIONS}/{hex_of(digest)}"
    said = str(link.readlink()) if link.is_symlink() else None
    if said != wanted or (said is None and link.exists()):
        shown = said or ("no link" if link.exists() else "nothing")
        yield Fault(where=LIVE_LINK, text=f"is {shown}, and the log says {wanted or 'nothing'}")
    expected = about(str(entries[0].details.get("name")), policy_at(entries))
    path = root / ABOUT
    if not path.is_file() or path.read_bytes() != expected:
        yield Fault(where=ABOUT, text="is not what the log says" if path.exists() else "is missing")


def _strangers(root: Path) -> Iterator[Fault]:
    there = {
        room: {item.name for item in (root / room).iterdir()} if (root / room).is_dir() else set()
        for room in _ROOMS
    }
    entries, _ = log.read(log_of(root))
    versions = {hex_of(str(item.version)) for item in entries if item.action == "add"}
    profiles = {hex_of(item.details["profile"]) for item in entries if "profile" in item.details}
    receipts = {f"{hex_of(digest)}.json" for item in entries for digest in item.receipts}
    known = {
        VERSIONS: versions,
        PROFILES: profiles,
        RECEIPTS: receipts,
        MANIFESTS: {f"{name}.json" for name in versions | profiles},
    }
    for room in _ROOMS:
        for name in sorted(there[room] - known[room]):
            yield Fault(where=f"{room}/{name}", text="no entry names it")
        for name in sorted(known[room] - there[room]):
            yield Fault(where=f"{room}/{name}", text="is missing")
    own = {LOG, ABOUT, LIVE_LINK, lock.LOCK, changes.STAGING, changes.JOURNAL, COUNTS, *_ROOMS}
    for name in sorted({item.name for item in root.iterdir()} - own):
        yield Fault(where=name, text="does not belong to a line")


def _counts(root: Path) -> Iterator[Fault]:
    """Check what looks have counted, which the newest look names."""
    said = counted_in(log.read(log_of(root))[0])
    files = (item for item in (root / COUNTS).rglob("*") if not item.is_dir())
    there = {item.relative_to(root).as_posix() for item in files}
    for name in sorted(there - said.keys()):
        yield Fault(where=name, text="no entry names it")
    for name, digest in said.items():
        if name not in there:
            yield Fault(where=name, text="is missing")
        elif file_digest(root / name) != digest:
            yield Fault(where=name, text="was changed")


def _manifest_of(root: Path, digest: str) -> Any:
    try:
        return kept_manifest(root, digest)
    except SsmithError as error:
        return Fault(where=f"{MANIFESTS}/{hex_of(digest)}.json", text=error.what)
    except (KeyError, TypeError, ValueError, AttributeError):
        return Fault(where=f"{MANIFESTS}/{hex_of(digest)}.json", text="is no manifest")


def _version(root: Path, digest: str, manifest: Any, room: str = VERSIONS) -> Iterator[Fault]:
    if isinstance(manifest, Fault):
        yield manifest
        return
    place = f"{room}/{hex_of(digest)}"
    for name, text in faults(root / place, manifest):
        yield Fault(where=f"{place}/{name}", text=text)


def _papers(root: Path, entry: Entry) -> Iterator[Fault]:
    for digest in entry.receipts:
        name = f"{RECEIPTS}/{hex_of(digest)}.json"
        if not (root / name).is_file():
            yield Fault(where=name, text="is missing")
        elif file_digest(root / name) != digest:
            yield Fault(where=name, text="was changed")
        elif entry.action == "add" and (why := of_version(root / name, entry)):
            yield Fault(where=name, text=why)
    if "profile" in entry.details:
        digest = str(entry.details["profile"])
        yield from _version(root, digest, _manifest_of(root, digest), PROFILES)


def _names(version: Version) -> Iterator[Fault]:
    """Check that a model's own file names the numbers, and the parent, that its entry names."""
    path = version.path / "ssmith.json"
    if not path.is_file():
        return
    try:
        said = read_json(path)
        same = (said["digest"], said["parent"]) == (version.tensors, version.parent)
    except (SsmithError, KeyError, TypeError):
        same = False
    if not same:
        where = f"{VERSIONS}/{hex_of(version.digest)}/ssmith.json"
        yield Fault(where=where, text="names other numbers, or another parent, than its entry")


def _entries(entries: Sequence[Entry]) -> Iterator[Fault]:
    """Check what each entry says against the entries before it."""
    added: set[str | None] = {None}
    lived: set[str | None] = set()
    for place, entry in enumerate(entries):
        where = f"{LOG}, entry {place}"
        if entry.action == "add":
            added.add(entry.version)
        elif entry.version not in added:
            text = f"version {short(str(entry.version))} was not added before"
            yield Fault(where=where, text=text)
        if entry.action == "rollback" and entry.version not in lived:
            yield Fault(where=where, text="goes back to a version that was never live")
        if entry.action in LIVE:
            lived.add(entry.version)
        yield from _entry(entries[:place], entry, where)


def _entry(before: Sequence[Entry], entry: Entry, where: str) -> Iterator[Fault]:
    for text in signed_by(entry)[1]:
        yield Fault(where=where, text=text)
    if entry.action == "promote":
        rules = entry.details.get("rules", [])
        failed = [item["name"] for item in rules if not item.get("passed")]
        if failed:
            yield Fault(where=where, text=f"promotes although {', '.join(failed)} did not hold")
    if entry.action in ("promote", "override", "policy"):
        yield from _consent(before, entry, where)


def _consent(before: Sequence[Entry], entry: Entry, where: str) -> Iterator[Fault]:
    signers = policy_at(before).promote.signers
    if not signers.at_least:
        return
    target = entry.version if entry.action != "policy" else _digest_of_policy(entry)
    found = approvals(before, str(target), signers.keys)
    own = signed_by(entry)[0]
    found |= own & frozenset(signers.keys) if signers.keys else own
    if len(found) < signers.at_least:
        names = ", ".join(map(short_key, sorted(found))) or "nobody"
        yield Fault(
            where=where,
            text=f"{entry.action} needs signatures of {signers.at_least} keys, and has those of "
            f"{names}",
        )


def _digest_of_policy(entry: Entry) -> str:
    return policy_at([entry]).digest
