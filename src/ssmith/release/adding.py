"""Bring a model into a line, as it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ssmith.core.errors import InputError
from ssmith.release.disk import hex_of, in_our_words, plain
from ssmith.release.evidence import Paper, made_of, refuse_foreign
from ssmith.release.export import source_of
from ssmith.release.keys import Key
from ssmith.release.line import Line
from ssmith.release.log import Entry
from ssmith.release.manifest import BASE, MANIFESTS, Manifest, copy, manifest_of
from ssmith.release.version import PROFILES, VERSIONS, Version
from ssmith.release.writing import Writing


@dataclass(frozen=True, kw_only=True)
class Artefact:
    """A model on disk that was opened and checked: ``"model"``, ``"adapter"`` or ``"foreign"``.

    ``tensors`` and ``parent`` are digests of its tensors, and of those of the model it was made
    from, if it names one; ``base`` is what an adapter is put on, unless that lies in its directory.
    """

    directory: Path
    name: str
    kind: str
    manifest: Manifest
    tensors: str
    parent: str | None = None
    base: Artefact | None = None

    def made_of(self) -> frozenset[str]:
        """Return digests of the tensors of what it was made of."""
        found = {self.parent, None if self.base is None else self.base.tensors}
        return frozenset(item for item in found if item is not None)


def keep(
    line: Line,
    artefact: Artefact,
    *,
    papers: Sequence[Paper] = (),
    reason: str = "",
    key: Key | None = None,
) -> Version:
    """Bring an artefact into a line, and the base of an adapter with it.

    Args:
        line: the line.
        artefact: that was opened.
        papers: receipts that it rests on.
        reason: in words.
        key: that signs.

    Returns:
        The version; the one there is if the line holds these very bytes.

    Raises:
        InputError: if a receipt does not speak of it, or the line lies in its directory.
        ArtefactError: if the disk refuses, or a file changes meanwhile.
        BusyError: if another writer is not done in time.
    """
    for paper in papers:
        refuse_foreign(paper, tensors=artefact.tensors, made_of=artefact.made_of())
    place = artefact.directory.resolve()
    if place in (line.path.resolve(), *line.path.resolve().parents):
        raise InputError(f"the line lies in {artefact.directory}", next_step="add a model")
    manifest = artefact.manifest
    if artefact.base is not None:
        base = keep(line, artefact.base, reason=f"base of {artefact.name}", key=key)
        manifest = replace(manifest, base=base.digest)
        if BASE in manifest.files:
            raise InputError(
                f"{artefact.directory / BASE} has the name that a line gives to an adapter's base",
                next_step="rename it",
            )
    digest, source = manifest.digest, source_of(artefact.directory, manifest)
    with line.change(f"add {artefact.name}") as writing:
        there = any(item.version == digest for item in writing.before if item.action == "add")
        receipts = tuple(writing.keep_receipt(paper.raw) for paper in papers)
        if not there:
            details = _keep(writing, artefact, manifest)
            details |= {} if source is None else {"exported": source}
            writing.record(
                "add", version=digest, receipts=receipts, reason=reason, details=details, key=key
            )
        elif new := _unknown(writing.before, digest, receipts):
            writing.record("note", version=digest, receipts=new, reason=reason, details={}, key=key)
    return line.version(digest)


def keep_profile(line: Line, version: Version, directory: Path, *, reason: str = "") -> Entry:
    """Keep the profile of a version beside it; the entry names its digest.

    Raises `InputError` if something in the directory cannot be kept, `ArtefactError` if the disk
    refuses or a file changes meanwhile, `BusyError` if another writer is not done in time.
    """
    with in_our_words(directory):
        manifest = manifest_of(directory)
    with line.change("note") as writing:
        _keep_files(writing, PROFILES, directory, manifest)
        return writing.record(
            "note",
            version=version.digest,
            reason=reason or "profile",
            details={"profile": manifest.digest},
        )


def keep_papers(
    line: Line,
    version: Version,
    papers: Sequence[Paper],
    *,
    reason: str = "",
    key: Key | None = None,
) -> Entry:
    """Write something down about a version, and keep newer receipts of it.

    Raises `InputError` if a receipt does not speak of the version, `ArtefactError` if the disk
    refuses.
    """
    for paper in papers:
        refuse_foreign(paper, tensors=version.tensors, made_of=made_of(version.added))
    with line.change("note") as writing:
        receipts = tuple(writing.keep_receipt(paper.raw) for paper in papers)
        return writing.record(
            "note", version=version.digest, receipts=receipts, reason=reason, details={}, key=key
        )


def _keep(writing: Writing, artefact: Artefact, manifest: Manifest) -> dict[str, Any]:
    """Stage what an artefact is made of, and return what its entry says."""
    made = _keep_files(writing, VERSIONS, artefact.directory, manifest)
    if manifest.base is not None and made is not None:
        (made / BASE).symlink_to(f"../{hex_of(manifest.base)}", target_is_directory=True)
    return {
        "name": plain(artefact.name),
        "kind": artefact.kind,
        "tensors": artefact.tensors,
        "parent": artefact.parent,
        "base": manifest.base,
        "base_tensors": None if artefact.base is None else artefact.base.tensors,
        "files": len(manifest.files),
        "bytes": manifest.bytes,
    }


def _keep_files(writing: Writing, room: str, directory: Path, manifest: Manifest) -> Path | None:
    """Stage the files of a manifest, and return where; None if the line has them."""
    place = f"{room}/{hex_of(manifest.digest)}"
    if (writing.staged.root / place).exists():
        return None
    made = writing.staged.add_directory(place)
    copy(directory, made, manifest)
    writing.staged.add(f"{MANIFESTS}/{hex_of(manifest.digest)}.json", manifest.content())
    return made


def _unknown(entries: Sequence[Entry], digest: str, receipts: Sequence[str]) -> tuple[str, ...]:
    known = {one for item in entries if item.version == digest for one in item.receipts}
    return tuple(item for item in receipts if item not in known)
