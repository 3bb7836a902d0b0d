"""Directories that are ours: whole or absent, listed file by file, replaced in one step."""

from __future__ import annotations

import ctypes
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from ssmith.core.errors import ArtefactError, OutputExistsError, SsmithError
from ssmith.core.files import aside, cure, hold, is_scrap, read_json, sha256_file, sweep, write_json

MANIFEST = "manifest.json"
FORMAT = "ssmith-model"
FORMAT_VERSION = 2
_HERE = -100
_EXCHANGE = 2
_SHOWN = 3


def manifest_of(directory: Path) -> dict[str, Any]:
    """Return the manifest: size and SHA-256 of every file but itself, and where links lead."""
    links = {
        item.relative_to(directory).as_posix(): str(item.readlink())
        for item in sorted(directory.rglob("*"))
        if item.is_symlink() and item.is_dir()
    }
    return {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        **({"links": links} if links else {}),
        "files": {
            item.relative_to(directory).as_posix(): {
                "bytes": item.stat().st_size,
                "sha256": sha256_file(item),
            }
            for item in sorted(directory.rglob("*"))
            if item.is_file() and item != directory / MANIFEST
        },
    }


def write_manifest(directory: Path) -> None:
    """Write the manifest of all that is in a directory of ours, so that it may be replaced."""
    write_json(directory / MANIFEST, manifest_of(directory))


def listed_in(directory: Path) -> dict[str, dict[str, object]] | None:
    """Return size and digest of the files that a manifest of ours lists; None if there is none.

    Raises `ArtefactError` if it is no JSON.
    """
    if not (directory / MANIFEST).is_file():
        return None
    content = read_json(directory / MANIFEST)
    files = content.get("files") if isinstance(content, dict) else None
    if not isinstance(files, dict) or content.get("format") != FORMAT:
        return None
    return files if all(isinstance(item, dict) for item in files.values()) else None


def _links_in(directory: Path) -> list[str]:
    """Return the links to directories that a manifest lists, and that lead where it says."""
    links = read_json(directory / MANIFEST).get("links")
    return [
        name
        for name, target in (links.items() if isinstance(links, dict) else ())
        if (directory / name).is_symlink() and str((directory / name).readlink()) == target
    ]


def strangers_in(directory: Path) -> list[str]:
    """Return the files in a directory that no manifest of ours lists, in order."""
    try:
        listed = listed_in(directory)
    except ArtefactError:
        listed = None
    own = set() if listed is None else {MANIFEST, *listed, *_links_in(directory)}
    there = [item for item in directory.rglob("*") if item.is_symlink() or not item.is_dir()]
    names = [item.relative_to(directory) for item in there]
    return sorted(
        name.as_posix()
        for name in names
        if not any(map(is_scrap, name.parts)) and name.as_posix() not in own
    )


def refuse_existing(path: Path, *, overwrite: bool) -> None:
    """Raise `OutputExistsError` unless ``path`` is free, an empty directory, or may be replaced.

    With ``overwrite`` a file may be, or a directory whose manifest is ours and lists every file in
    it.
    """
    sweep(path)
    for above in path.parents:
        if above.exists() and not above.is_dir():
            raise OutputExistsError(
                f"output {path} is below {above}, which is a file", next_step="choose another path"
            )
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return
    if not overwrite:
        raise OutputExistsError(
            f"output {path} already exists",
            allowed="a path that is free",
            next_step="choose another path or pass --overwrite",
        )
    if path.is_dir():
        refuse_strangers(path, strangers_in(path))


def refuse_strangers(path: Path, strangers: list[str]) -> None:
    """Raise if a directory that is to be replaced holds files that are not ours."""
    if strangers:
        more = f" and {len(strangers) - _SHOWN} more" if len(strangers) > _SHOWN else ""
        raise OutputExistsError(
            f"output {path} is not replaced: {', '.join(strangers[:_SHOWN])}{more} in it "
            f"{'is' if len(strangers) == 1 else 'are'} no file that ssmith lists as its own",
            allowed=f"a path that is free, or an output whose {MANIFEST} lists every file in it",
            next_step="choose another path, or move these files away",
        )


@contextmanager
def new_directory(path: Path, *, overwrite: bool = False, sealed: bool = False) -> Iterator[Path]:
    """Yield a scratch directory that becomes ``path`` only if the block succeeds.

    ``sealed``: the block writes the manifest itself. Raises as `refuse_existing`, and
    `ArtefactError` if the disk refuses.
    """
    refuse_existing(path, overwrite=overwrite)
    try:
        with beside(path) as scratch:
            try:
                yield scratch
                if not sealed:
                    write_manifest(scratch)
            except ArtefactError as error:
                # Users do not know the scratch directory.
                what = error.what.replace(str(scratch), str(path))
                raise ArtefactError(
                    what, allowed=error.allowed, next_step=error.next_step
                ) from error
            _settle(scratch)
            _swap_in(scratch, path)
    except (OSError, SafetensorError) as error:
        if isinstance(error, SsmithError):
            raise
        raise ArtefactError(
            f"cannot write {path}: {getattr(error, 'strerror', None) or error}",
            next_step=f"{cure(error)}, or choose another output; nothing was changed",
        ) from error


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """Yield a directory beside ``path`` that is gone afterwards; `sweep` removes a killed one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, scratch = hold(path, _new_directory)
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        os.close(descriptor)


def _new_directory(place: Path) -> int:
    place.mkdir()
    return os.open(place, os.O_RDONLY)


def _settle(scratch: Path) -> None:
    """Give all files what the umask leaves, as libraries do not, and let them outlast a crash."""
    mode = scratch.stat().st_mode & 0o777
    for item in scratch.rglob("*"):
        item.chmod(mode if item.is_dir() else mode & 0o666)
        descriptor = os.open(item, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _swap_in(scratch: Path, path: Path) -> None:
    """Move ``scratch`` to ``path``; what was there is in ``scratch`` then, or gone."""
    if not path.exists():
        scratch.rename(path)
        return
    if any(path.iterdir()) and strangers_in(path):
        # Put there while this was at work, which is not thrown away either.
        other = scratch.rename(path.with_name(f"{path.name}-{scratch.name.rpartition('-')[2]}"))
        raise OutputExistsError(
            f"{path} got files meanwhile that are not ours, so the output is in {other}",
            next_step="move one of the two",
        )
    if _exchange(scratch, path):
        return
    old = aside(path)
    path.rename(old)
    try:
        scratch.rename(path)
    except BaseException:
        with suppress(OSError):
            old.rename(path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _exchange(first: Path, second: Path) -> bool:
    """Exchange two names in one system call; return whether there is one here."""
    call = getattr(ctypes.CDLL(None), "renameat2", None)
    names = [os.fsencode(path) for path in (first, second)]
    return call is not None and call(_HERE, names[0], _HERE, names[1], _EXCHANGE) == 0
