"""What a version is made of: every file by size and digest, and the base it is put on."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ssmith.core.errors import ArtefactError, InputError
from ssmith.release.disk import (
    PREFIX,
    canonical,
    copy_new,
    digest_of,
    file_digest,
    hex_of,
    kept_json,
)

MANIFESTS = "manifests"
BASE = "base"
"""In the directory of an adapter, the link to the version it is put on."""
_PICKLES = {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt"}


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a version is made of.

    Args:
        files: size and digest of each, by its path below the version's directory.
        base: digest of the version that an adapter is put on.
    """

    files: Mapping[str, tuple[int, str]]
    base: str | None = None

    def content(self) -> bytes:
        """Return it as it is kept; the digest of this is the version's."""
        files = {
            name: {"bytes": size, "sha256": hex_of(digest)}
            for name, (size, digest) in self.files.items()
        }
        return canonical({"files": files, "base": self.base})

    @property
    def digest(self) -> str:
        """Digest of the version."""
        return digest_of(self.content())

    @property
    def bytes(self) -> int:
        """Bytes of all files."""
        return sum(size for size, _ in self.files.values())


def kept_manifest(root: Path, digest: str) -> Manifest:
    """Return the manifest that a line keeps of a version, or a profile.

    Raises `ArtefactError` if it is missing or was changed.
    """
    content = kept_json(root / MANIFESTS / f"{hex_of(digest)}.json", digest)
    files = {
        str(name): (int(facts["bytes"]), PREFIX + str(facts["sha256"]))
        for name, facts in content["files"].items()
    }
    return Manifest(files=files, base=content["base"])


def manifest_of(directory: Path, *, base: str | None = None) -> Manifest:
    """Return the manifest of a model's directory; ``base`` is the version that it is put on.

    What symlinks point to counts as if it lay there. Raises `InputError` if something in it cannot
    be kept, or it is empty, and `OSError` if a file cannot be read.
    """
    files = {
        name: (path.stat().st_size, file_digest(path)) for name, path in sorted(_files(directory))
    }
    if not files:
        raise InputError(f"{directory} is empty", allowed="the directory of a model")
    return Manifest(files=files, base=base)


def copy(directory: Path, target: Path, manifest: Manifest) -> None:
    """Copy what a manifest names into an empty directory.

    Raises `ArtefactError` if a file is not what the manifest says, `OSError` if the disk refuses.
    """
    for name, facts in manifest.files.items():
        place = target / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if copy_new(directory / name, place) != facts:
            raise ArtefactError(
                f"{directory / name} changed while it was read",
                next_step="wait until whoever writes it is done, and run the command again",
            )


def faults(directory: Path, manifest: Manifest) -> Iterator[tuple[str, str]]:
    """Yield paths where a kept directory is not what its manifest says, and what is wrong there."""
    for name, (size, digest) in manifest.files.items():
        path = directory / name
        if path.is_symlink() or not path.is_file():
            yield name, "missing"
            continue
        try:
            found = path.stat().st_size
            if found != size:
                yield name, f"has {found} bytes, and had {size}"
            elif file_digest(path) != digest:
                yield name, "was changed"
        except OSError as error:
            yield name, f"cannot be read: {error.strerror or error}"
    expected = {*manifest.files, *([BASE] if manifest.base else [])}
    for place, folders, names in os.walk(directory):
        for name in sorted(
            (*names, *(item for item in folders if (Path(place) / item).is_symlink()))
        ):
            inside = (Path(place) / name).relative_to(directory).as_posix()
            if inside not in expected:
                yield inside, "was added"
    if manifest.base and _target(directory / BASE) != f"../{hex_of(manifest.base)}":
        yield BASE, "does not point to the base"


def _target(link: Path) -> str | None:
    return str(link.readlink()) if link.is_symlink() else None


def _files(directory: Path) -> Iterator[tuple[str, Path]]:
    """Yield every file, or refuse what no line can keep as it was."""
    for place, folders, names in os.walk(directory):
        for name in (*folders, *names):
            path = Path(place) / name
            inside = path.relative_to(directory).as_posix()
            if inside == BASE and name in folders and path.is_symlink():
                # An adapter from a line: what it is put on is a version of its own.
                continue
            _refuse_odd(path, inside)
            if name in names:
                yield inside, path


def _refuse_odd(path: Path, inside: str) -> None:
    kind = path.stat().st_mode
    if path.is_symlink() and stat.S_ISDIR(kind):
        raise InputError(f"{path} is a link to a directory", next_step="put its files in its place")
    if not stat.S_ISDIR(kind) and not stat.S_ISREG(kind):
        raise InputError(f"{path} is no file", allowed="files and directories")
    if path.suffix.lower() in _PICKLES and not stat.S_ISDIR(kind):
        raise InputError(
            f"{path} is a pickle, which can run code when it is opened",
            next_step="move it elsewhere; a line keeps safetensors, JSON and text",
        )
    try:
        inside.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(f"{inside!r} is no name in UTF-8", next_step="rename it") from error
