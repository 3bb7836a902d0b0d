"""A version outside its line: a directory or an archive, the same bytes every time."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path
from typing import Any

from ssmith.core.directories import beside, new_directory, refuse_existing, write_manifest
from ssmith.core.errors import ArtefactError, InputError
from ssmith.core.files import read_json, to_json
from ssmith.release.disk import hex_of, in_our_words, write_new
from ssmith.release.line import Line
from ssmith.release.lineage import lineage_of
from ssmith.release.manifest import BASE, Manifest, copy, kept_manifest
from ssmith.release.version import RECEIPTS, VERSIONS, Version, kept_in

ABOUT = "release.json"
WHOLE = "version.json"
"""What the version is made of; the digest of this file is the version's."""
MODEL = "model"
ARCHIVE = ".tar"


def export(line: Line, version: Version, out: Path, *, overwrite: bool = False) -> Path:
    """Write a version with its manifest, its receipts and the entry that brought it.

    Args:
        line: the line.
        version: of it.
        out: the directory to make, or a file that ends in ``.tar``.
        overwrite: replace an earlier export.

    Returns:
        ``out``; `ssmith.load` opens ``model`` in it.

    Raises:
        OutputExistsError: if something is there that may not be replaced.
        InputError: if the place is in the line.
        ArtefactError: if a file of the version was changed, or the disk refuses.
    """
    if line.path.resolve() in out.resolve().parents or out.resolve() == line.path.resolve():
        raise InputError(f"{out} is in the line", next_step="choose a place outside")
    if out.suffix != ARCHIVE:
        with new_directory(out, overwrite=overwrite) as scratch:
            _fill(line, version, scratch)
        return out
    refuse_existing(out, overwrite=overwrite)
    with in_our_words(out, after="nothing was written"), beside(out) as place:
        inside, packed = place / "whole", place / out.name
        inside.mkdir()
        _fill(line, version, inside)
        write_manifest(inside)
        _pack(inside, packed, out.name.removesuffix(ARCHIVE))
        packed.replace(out)
    return out


def _fill(line: Line, version: Version, place: Path) -> None:
    manifest = kept_manifest(line.path, version.digest)
    _model(line.path, version.digest, place / MODEL)
    if manifest.base is not None:
        _model(line.path, manifest.base, place / BASE)
        (place / MODEL / BASE).symlink_to(f"../{BASE}", target_is_directory=True)
    digests = dict.fromkeys(one for item in version.evidence for one in item.receipts)
    for digest in digests:
        kept_in(line.path, digest)
        name = f"{hex_of(digest)}.json"
        (place / RECEIPTS).mkdir(exist_ok=True)
        write_new(place / RECEIPTS / name, (line.path / RECEIPTS / name).read_bytes())
    write_new(place / WHOLE, manifest.content())
    about: dict[str, Any] = {
        "line": line.name,
        "version": version.digest,
        "name": version.name,
        "receipts": list(digests),
        "lineage": lineage_of(version, line.versions()).text,
        "entries": [{**item.content(), "signatures": item.signatures} for item in version.evidence],
    }
    write_new(place / ABOUT, to_json(about).encode("utf-8"))


def source_of(directory: Path, manifest: Manifest) -> dict[str, str] | None:
    """Return the line, the version and its way there that an export tells of itself.

    None of a model that no line exported; raises `ArtefactError` if the model was changed since, or
    what the export tells cannot be read.
    """
    path = directory.parent / ABOUT
    if directory.name != MODEL or not path.is_file():
        return None
    about = read_json(path)
    told = {name: about.get(name) for name in ("line", "version", "lineage")}
    if not all(isinstance(item, str) for item in told.values()):
        raise ArtefactError(
            f"{path} does not tell line, version and lineage", next_step="export the version again"
        )
    if told["version"] != manifest.digest:
        raise ArtefactError(
            f"{directory} is not what line {told['line']} exported",
            allowed=f"version {told['version']}; these files are {manifest.digest}",
            next_step=f"export it again, or move {path} away: then it is a model of its own",
        )
    return {name: str(item) for name, item in told.items()}


def _model(root: Path, digest: str, place: Path) -> None:
    place.mkdir()
    copy(root / VERSIONS / hex_of(digest), place, kept_manifest(root, digest))


def _pack(directory: Path, archive: Path, name: str) -> None:
    """Write an archive that does not tell when, where or by whom it was written."""
    with archive.open("xb") as stream, tarfile.open(fileobj=stream, mode="w") as made:
        for path in (directory, *sorted(directory.rglob("*"))):
            inside = Path(name) / path.relative_to(directory)
            facts = tarfile.TarInfo(inside.as_posix())
            if path.is_symlink():
                facts.type, facts.linkname = tarfile.SYMTYPE, str(path.readlink())
                made.addfile(facts)
            elif path.is_dir():
                facts.type, facts.mode = tarfile.DIRTYPE, 0o755
                made.addfile(facts)
            else:
                facts.size, facts.mode = path.stat().st_size, 0o644
                with path.open("rb") as content:
                    made.addfile(facts, content)
        stream.flush()
        os.fsync(stream.fileno())
