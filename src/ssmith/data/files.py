"""What the readers of files share: bytes, text, and what a path holds by its name."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BufferedIOBase
from pathlib import Path

from ssmith.core.errors import DataError, InputError, SsmithError
from ssmith.core.files import beside
from ssmith.core.names import meant

PACKED = ".gz"
# A few kilobytes can unpack to any size; what is larger than this is unpacked by its owner.
MOST = 1 << 30


def suffix_of(path: Path) -> str:
    """Return the suffix that says what is in a file, in lower case, that of packing aside."""
    name = path.with_suffix("") if path.suffix.lower() == PACKED else path
    return name.suffix.lower()


def stem_of(path: Path) -> str:
    """Return a file's name without the suffixes that `suffix_of` reads."""
    name = path.with_suffix("") if path.suffix.lower() == PACKED else path
    return name.stem


def require_there(path: Path) -> None:
    """Refuse a path where there is nothing."""
    if not path.exists():
        raise InputError(
            f"there is no file or directory {path}", next_step=beside(path) or "check the path"
        )


def require_columns(columns: Sequence[str], there: Sequence[str], path: Path) -> None:
    """Refuse a file without the columns that were asked for."""
    for name in columns:
        if name not in there:
            raise DataError(
                f"{path.name} has no column {name!r}",
                allowed=", ".join(there),
                next_step=meant(name, there) or "name one of these",
            )


@contextmanager
def opened(path: Path) -> Iterator[BufferedIOBase]:
    """Open a file to be read a part at a time, unpacked as it is read."""
    try:
        with gzip.open(path) if path.suffix.lower() == PACKED else path.open("rb") as stream:
            yield stream
    except (OSError, EOFError, zlib.error) as error:
        if isinstance(error, SsmithError):
            raise
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"cannot read {path.name}: {reason}", next_step="check the file") from error


def read_bytes(path: Path) -> bytes:
    """Return what a file holds, unpacked."""
    with opened(path) as stream:
        if path.suffix.lower() != PACKED:
            return stream.read()
        content = stream.read(MOST + 1)
    if len(content) > MOST:
        raise unpacks_to_more(path)
    return content


def unpacks_to_more(path: Path) -> DataError:
    """Return what to say of a packed file that is larger than it may be."""
    return DataError(
        f"{path.name} unpacks to more than {MOST >> 20} MiB",
        allowed=f"at most {MOST >> 20} MiB in a packed file",
        next_step="unpack it",
    )


def read_text(path: Path) -> str:
    """Return the text of a file; a byte-order mark is dropped."""
    content = read_bytes(path)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path.name} is not UTF-8 text: {error.reason} at byte {error.start}",
            allowed="UTF-8",
            next_step=_convert(path, content),
        ) from error


def _convert(path: Path, content: bytes) -> str:
    """Return how a file of another encoding becomes UTF-8."""
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return f"convert it: iconv -f UTF-16 -t UTF-8 {path.name}"
    for name in ("SHIFT_JIS", "CP1252"):
        try:
            content.decode(name)
        except UnicodeDecodeError:
            continue
        return f"if it is {name}, convert it: iconv -f {name} -t UTF-8 {path.name}"
    return "convert it, or leave it out"
