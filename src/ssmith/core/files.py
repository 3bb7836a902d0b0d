"""Files that are either whole or absent: write aside, fsync, rename; and what a kill leaves."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import math
import os
import re
import secrets
import shutil
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from ssmith.core.errors import ArtefactError, SsmithError
from ssmith.core.names import meant

_ALIKE = 0.7
_MARK = ".ssmith-"
_ASIDE = f"{_MARK}old-"
_SCRAP = re.compile(r"\..+\.ssmith-(old-)?[0-9a-f]{8}")


def cure(error: Exception) -> str:
    """Return what to do about a disk that refuses; libraries that hide the number lack space."""
    code = error.errno if isinstance(error, OSError) else errno.ENOSPC
    if code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return "free space on the disk"
    if code == errno.EROFS:
        return "the disk is read-only: mount it for writing, or work on a copy"
    if code in (errno.EACCES, errno.EPERM):
        return "ask for permission to write there"
    return "check the disk"


def write_bytes(path: Path, content: bytes) -> None:
    """Replace ``path`` with ``content`` atomically (see `writing`)."""
    with writing(path) as stream:
        stream.write(content)


@contextmanager
def writing(path: Path) -> Iterator[BinaryIO]:
    """Yield a stream whose content replaces ``path`` if the block succeeds, else nothing does.

    A reader sees old or new, never half; the file's directory is made if need be. Raises
    `ArtefactError` if the file cannot be written (disk full, no permission).
    """
    partial: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path)
        descriptor, partial = hold(path, _new_file)
        with os.fdopen(descriptor, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
            partial.replace(path)
        partial = None
    except OSError as error:
        if isinstance(error, SsmithError):
            raise
        raise ArtefactError(
            f"cannot write {path}: {error.strerror or error}",
            next_step=f"{cure(error)}, or choose another output; nothing was changed",
        ) from error
    finally:
        # A failure or an interrupt leaves no scrap, nor does one that cannot be removed hide why.
        if partial is not None:
            with suppress(OSError):
                partial.unlink()


def hold(path: Path, make: Callable[[Path], int]) -> tuple[int, Path]:
    """Make something beside ``path``, and lock it for as long as it is being written.

    ``make`` opens it; with the permissions that the umask leaves. Its descriptor, and where it is;
    `sweep` of other processes passes it by.
    """
    while True:
        place = path.with_name(f".{path.name}{_MARK}{secrets.token_hex(4)}")
        with suppress(FileExistsError):
            descriptor = make(place)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if os.fstat(descriptor).st_nlink:
                return descriptor, place
            # Another process took it for a scrap before it was locked.
            os.close(descriptor)


def _new_file(place: Path) -> int:
    return os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)


def is_scrap(name: str) -> bool:
    """Return whether a name is one that only a write of ours that was killed leaves."""
    return bool(_SCRAP.fullmatch(name))


def sweep(path: Path) -> None:
    """Remove what killed writers of ``path`` left beside it; restore what one had set aside."""
    try:
        names = [item.name for item in path.parent.iterdir()]
    except OSError:
        return
    for name in names:
        scrap = path.with_name(name)
        if name.startswith(f".{path.name}{_MARK}") and is_scrap(name):
            with suppress(OSError):
                _remove_unless_held(scrap, path)


def _remove_unless_held(scrap: Path, path: Path) -> None:
    descriptor = os.open(scrap, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _ASIDE in scrap.name and not path.exists():
            scrap.rename(path)
        elif scrap.is_dir():
            shutil.rmtree(scrap, ignore_errors=True)
        else:
            scrap.unlink()
    finally:
        os.close(descriptor)


def aside(path: Path) -> Path:
    """Return a name beside ``path`` from which `sweep` restores it, if it is missing then."""
    return path.with_name(f".{path.name}{_ASIDE}{secrets.token_hex(4)}")


def write_text(path: Path, content: str) -> None:
    """Write UTF-8 text atomically."""
    write_bytes(path, content.encode("utf-8"))


def to_json(content: Any) -> str:
    """Render JSON with sorted keys and a final newline; NaN and infinity raise `ValueError`."""
    return json.dumps(content, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n"


def write_json(path: Path, content: Any) -> None:
    """Write JSON atomically (see `to_json`)."""
    write_text(path, to_json(content))


def read_json(path: Path, *, by_hand: bool = False) -> Any:
    """Read JSON; raises `ArtefactError` if the file is missing, unreadable or not JSON.

    ``by_hand``: people write such files, so that a mistake is corrected and not restored.
    """
    try:
        return parse_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        raise ArtefactError(
            f"cannot read {path}: {error.strerror or error}",
            next_step=(beside(path) if missing else "") or "check the path",
        ) from error
    except (ValueError, RecursionError) as error:
        raise ArtefactError(
            f"{path} is not valid JSON ({error})",
            next_step=_correction(error) if by_hand else "restore it from its source",
        ) from error


def parse_json(text: str | bytes) -> Any:
    """Return what a text says in JSON; raises `ValueError` for NaN and infinity, too."""
    return json.loads(text, parse_constant=_refuse_constant)


def read_toml(path: Path) -> dict[str, Any]:
    """Read TOML, which people write by hand; raises `ArtefactError` like `read_json`."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ArtefactError(
            f"cannot read {path}: {error.strerror or error}", next_step="check the path"
        ) from error
    except ValueError as error:
        raise ArtefactError(f"{path} is no TOML: {error}", next_step="correct it") from error


def _correction(error: Exception) -> str:
    """Return where to correct a file of JSON that somebody wrote."""
    if isinstance(error, json.JSONDecodeError):
        return f"correct the file at line {error.lineno}, column {error.colno}"
    return "correct the file"


def beside(path: Path) -> str:
    """Return a question for a path where there is nothing: what lies there by a name much alike."""
    try:
        there = sorted(item.name for item in path.parent.iterdir())
    except OSError:
        there = []
    # What bears the very name is of another kind, and hidden files are nobody's input.
    names = [name for name in there if name != path.name and not name.startswith(".")]
    # Any two paths share some letters; less alike than this, a suggestion would be noise.
    question = meant(path.name, names, cutoff=_ALIKE) if path.name else ""
    return f"{question[:-1]} in {path.parent}?" if question and path.parent != Path() else question


def _refuse_constant(name: str) -> float:
    raise ValueError(f"non-finite number {name}")


def finite_or_none(value: float | None) -> float | None:
    """Return the value, or None where it is unknown or JSON has no word for it (NaN, ±∞)."""
    return value if value is not None and math.isfinite(value) else None


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file as hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
