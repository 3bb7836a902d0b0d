"""Files that are either whole or absent: write aside, fsync, rename."""

from __future__ import annotations

import hashlib
import json
import math
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ssmith.core.errors import ArtefactError, OutputExistsError
from ssmith.core.names import meant

_ALIKE = 0.7


def _fsync_path(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_bytes(path: Path, content: bytes) -> None:
    """Replace ``path`` with ``content`` atomically (a reader sees old or new, never half)."""
    partial: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = _aside(path)
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
    except OSError as error:
        raise ArtefactError(
            f"cannot write {path}: {error.strerror or error}",
            next_step="free space or choose another output; nothing was changed",
        ) from error
    finally:
        # Gone already if it has become ``path``; a failure or an interrupt leaves no scrap.
        if partial is not None:
            partial.unlink(missing_ok=True)


def write_text(path: Path, content: str) -> None:
    """Write UTF-8 text atomically."""
    write_bytes(path, content.encode("utf-8"))


def to_json(content: Any) -> str:
    """Render JSON with sorted keys and a final newline; NaN and infinity are a ValueError."""
    return json.dumps(content, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n"


def write_json(path: Path, content: Any) -> None:
    """Write JSON atomically (see `to_json`)."""
    write_text(path, to_json(content))


def read_json(path: Path, *, by_hand: bool = False) -> Any:
    """Read JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
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


def _correction(error: Exception) -> str:
    """Return where to correct a file of JSON that somebody wrote."""
    if isinstance(error, json.JSONDecodeError):
        return f"correct the file at line {error.lineno}, column {error.colno}"
    return "correct the file"


def beside(path: Path) -> str:
    """Return what may be meant by a path where there is nothing.

    It asks for what lies in the same directory under a name much alike, and is empty if there is
    none.
    """
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


def finite_or_none(value: float) -> float | None:
    """Return the value, or None where JSON has no word for it (NaN, ±∞)."""
    return value if math.isfinite(value) else None


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file as hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def directory_bytes(path: Path) -> int:
    """Return the summed size in bytes of all files below ``path``."""
    return sum(item.stat().st_size for item in path.rglob("*") if item.is_file())


def refuse_existing(path: Path, *, overwrite: bool, marker: str | None = None) -> None:
    """Raise unless ``path`` is free, an empty directory, or may be replaced.

    Args:
        path: where something is to be written.
        overwrite: whether it may be replaced.
        marker: a file that an earlier output of the same kind holds; a directory without it is
            somebody else's and is not replaced.

    Raises:
        OutputExistsError: if something is there that may not be replaced.
    """
    for above in path.parents:
        if above.exists() and not above.is_dir():
            raise OutputExistsError(
                f"output {path} is below {above}, which is a file", next_step="choose another path"
            )
    occupied = path.exists() and not (path.is_dir() and not any(path.iterdir()))
    if not occupied:
        return
    if not overwrite:
        raise OutputExistsError(
            f"output {path} already exists",
            allowed="a path that is free",
            next_step="choose another path or pass --overwrite",
        )
    if marker is not None and not (path / marker).is_file():
        raise OutputExistsError(
            f"output {path} already exists and has no {marker}, so it is not replaced",
            allowed="a path that is free, or an earlier output of the same kind",
            next_step="choose another path",
        )


@contextmanager
def new_directory(
    path: Path, *, overwrite: bool = False, marker: str | None = None
) -> Iterator[Path]:
    """Yield a scratch directory that becomes ``path`` only if the block succeeds.

    Args:
        path: the directory to make.
        overwrite: whether it may be replaced.
        marker: see `refuse_existing`.

    Yields:
        The scratch directory.

    Raises:
        OutputExistsError: if ``path`` is occupied and may not be replaced.
        ArtefactError: if the disk refuses.
    """
    refuse_existing(path, overwrite=overwrite, marker=marker)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = _aside(path)
        scratch.mkdir()
    except OSError as error:
        raise ArtefactError(
            f"cannot write beside {path}: {error.strerror or error}",
            next_step="free space or choose another output; nothing was changed",
        ) from error
    try:
        yield scratch
        mode = stat.S_IMODE(scratch.stat().st_mode)
        for item in scratch.rglob("*"):
            # Libraries that write through temporary files leave them readable to nobody else.
            item.chmod(mode if item.is_dir() else mode & 0o666)
            _fsync_path(item)
        _swap_in(scratch, path)
    except OSError as error:
        if isinstance(error, ArtefactError):
            raise
        raise ArtefactError(
            f"cannot write {path}: {error.strerror or error}",
            next_step="free space or choose another output; nothing was changed",
        ) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _aside(path: Path) -> Path:
    """Return a hidden name beside a path that nothing has."""
    return path.parent / f".{path.name}.{secrets.token_hex(4)}"


def _swap_in(scratch: Path, path: Path) -> None:
    """Move ``scratch`` to ``path``; an older directory leaves only after the new one is in."""
    if not path.exists():
        scratch.rename(path)
        return
    holder = Path(tempfile.mkdtemp(prefix=f".{path.name}.old.", dir=path.parent))
    old = holder / path.name
    try:
        path.rename(old)
        scratch.rename(path)
    except BaseException:
        if old.exists() and not path.exists():
            old.rename(path)
        # Removed only if empty: what could not be moved back is never deleted.
        with suppress(OSError):
            holder.rmdir()
        raise
    shutil.rmtree(holder, ignore_errors=True)
