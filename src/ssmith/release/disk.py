"""What a line writes on a disk: new files that are whole, and words for what a disk refuses."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ssmith.core.errors import ArtefactError, SsmithError
from ssmith.core.files import cure, read_json, sha256_file

PREFIX = "sha256:"
_BLOCK = 1 << 20


def canonical(content: Any) -> bytes:
    """Return JSON in its one form: sorted keys, no blanks, UTF-8; only finite numbers."""
    text = json.dumps(
        content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return text.encode("utf-8")


def digest_of(content: bytes) -> str:
    """Return the digest of bytes as it stands in a log."""
    return PREFIX + hashlib.sha256(content).hexdigest()


def file_digest(path: Path) -> str:
    """Return the digest of a file as it stands in a log."""
    return PREFIX + sha256_file(path)


def kept_json(path: Path, digest: str) -> Any:
    """Read JSON that is kept under its digest; raises `ArtefactError` if it was changed."""
    if path.is_file() and file_digest(path) != digest:
        raise ArtefactError(f"{path} was changed", next_step="restore it from a copy")
    return read_json(path)


def hex_of(digest: str) -> str:
    """Return a digest as it names a file."""
    return digest.removeprefix(PREFIX)


def write_new(path: Path, content: bytes, mode: int = 0o666) -> None:
    """Write a file that is not there, with the permissions that the umask leaves of ``mode``.

    What cannot be written whole is not left there.
    """
    try:
        _write(path, content, os.O_EXCL, mode)
    except FileExistsError:
        raise
    except OSError:
        path.unlink(missing_ok=True)
        raise


def append(path: Path, content: bytes) -> None:
    """Write behind what a file holds."""
    _write(path, content, os.O_APPEND, 0o666)


def _write(path: Path, content: bytes, how: int, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | how, mode)
    try:
        write_all(descriptor, content)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_all(descriptor: int, content: bytes) -> None:
    """Write all of it; a full disk may take a part at a time."""
    left = memoryview(content)
    while left:
        left = left[os.write(descriptor, left) :]


def copy_new(source: Path, path: Path) -> tuple[int, str]:
    """Copy a file to where there is none; return its size and digest, of the bytes copied."""
    digest, size = hashlib.sha256(), 0
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        with source.open("rb") as stream:
            while block := stream.read(_BLOCK):
                write_all(descriptor, block)
                digest.update(block)
                size += len(block)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return size, PREFIX + digest.hexdigest()


def settle(directory: Path) -> None:
    """Let what was renamed in a directory outlast a loss of power, where the system can."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def plain(text: str) -> str:
    """Return text as one line that moves no terminal's cursor, however often it is printed."""
    return "".join(item if item.isprintable() else "?" for item in " ".join(text.split()))


def remove(path: Path) -> None:
    """Remove a file, a symlink or a whole directory, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def in_our_words(place: Path, *, after: str = "nothing was changed") -> Iterator[None]:
    """Say in one line what the operating system refuses, and what that leaves.

    Raises `ArtefactError` in the place of an `OSError`; ``after`` is how things stand now.
    """
    try:
        yield
    except OSError as error:
        if isinstance(error, SsmithError):
            raise
        where = error.filename if isinstance(error.filename, str) else place
        raise ArtefactError(
            f"{where}: {error.strerror or error}", next_step=f"{cure(error)}; {after}"
        ) from error
