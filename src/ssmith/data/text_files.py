"""Text and token ids from the user's own files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ssmith.core.errors import DataError, InputError
from ssmith.core.files import beside
from ssmith.core.text import ALL, Text, TokenStream
from ssmith.core.words import number_of
from ssmith.data.documents import Document, Documents
from ssmith.data.rows import check_cells, read_rows
from ssmith.data.text_splits import stretches, text_of

TEXT = (
    ".txt", ".text", ".md", ".rst", ".py", ".c", ".h", ".cpp", ".js", ".ts", ".java", ".go", ".rs",
    ".json", ".xml", ".html", ".css", ".tex", ".log", ".toml", ".yaml", ".yml", ".sh",
    ".raw", ".tokens",
)  # fmt: skip
LINES = (".jsonl", ".ndjson")
TABLES = (".csv",)
TOKENS = (".npy", ".bin")
SUFFIXES = (*TEXT, *LINES, *TABLES, *TOKENS)


def is_token_file(path: Path) -> bool:
    """Return whether a path's suffix says that it holds token ids."""
    return path.suffix.lower() in TOKENS


def read_documents(path: Path, *, field: str = "text") -> Documents:
    """Read a text file, a ``.jsonl`` or ``.csv`` file or a directory of text files.

    Args:
        path: what to read; hidden files and files of other suffixes in a directory are listed in
            the details as left out.
        field: key of the text in each line of a ``.jsonl`` file, or column of a ``.csv`` one.

    Returns:
        The documents; empty ones are left out and counted in the details.

    Raises:
        InputError: if there is nothing, or its suffix is unknown.
        DataError: if it is empty or not UTF-8.
    """
    if path.is_dir():
        return _directory(path)
    if not path.is_file():
        raise InputError(
            f"there is no file or directory {path}", next_step=beside(path) or "check the path"
        )
    suffix = path.suffix.lower()
    if suffix in LINES:
        items, details = _lines(path, field), {"field": field}
    elif suffix in TABLES:
        items, details = _rows(path, field), {"field": field}
    elif suffix in TEXT:
        items, details = [Document(name=path.name, content=_utf8(path))], {}
    else:
        raise InputError(
            f"cannot read {str(path)!r} as text", allowed=f"a suffix of {', '.join(SUFFIXES)}"
        )
    return _documents(path, items, details)


def read_token_file(path: Path, *, vocabulary: int | None) -> Text:
    """Read token ids.

    Args:
        path: ``.npy`` with one axis of integers, or ``.bin`` of unsigned 16-bit little-endian.
        vocabulary: number of ids the model knows; the largest id plus one if None.

    Returns:
        The text, cut into stretches; how many bytes its tokens stand for is not known.

    Raises:
        InputError: if there is no such file.
        DataError: if it is empty, holds no integers, or an id the model does not know.
    """
    if not path.is_file():
        raise InputError(f"there is no file {path}", next_step=beside(path) or "check the path")
    ids = _numpy_ids(path) if path.suffix.lower() == ".npy" else _binary_ids(path)
    if not ids.size:
        raise DataError(f"{path.name} holds no token", next_step="check how it was written")
    smallest, largest = int(ids.min()), int(ids.max())
    known = largest + 1 if vocabulary is None else vocabulary
    if smallest < 0 or largest >= known:
        bad = smallest if smallest < 0 else largest
        raise DataError(
            f"{path.name} has token id {bad}",
            allowed=f"ids from 0 to {known - 1}, the model's vocabulary",
            next_step="tokenize the text with the tokenizer that belongs to the model",
        )
    stream = TokenStream(ids=torch.from_numpy(ids.astype(np.int32)))
    return text_of(
        path.name,
        {ALL: stream, **stretches(stream)},
        vocabulary=known,
        source=f"token ids in {path.name}",
        details={"tokenizer": "none: ids as they are", "split_of": "stretches, one after another"},
    )


def _numpy_ids(path: Path) -> NDArray[np.integer]:
    try:
        ids = np.load(path, allow_pickle=False)
    except (ValueError, OSError) as error:
        raise DataError(f"{path.name} is not a .npy file ({error})") from error
    if not isinstance(ids, np.ndarray) or ids.ndim != 1 or ids.dtype.kind not in "iu":
        raise DataError(
            f"{path.name} has shape {ids.shape} and type {ids.dtype}",
            allowed="one axis of integers",
        )
    return ids


def _binary_ids(path: Path) -> NDArray[np.integer]:
    if path.stat().st_size % 2:
        raise DataError(
            f"{path.name} has {path.stat().st_size} bytes",
            allowed="two bytes per token id",
            next_step="write ids as unsigned 16-bit little-endian, or as .npy",
        )
    return np.fromfile(path, dtype="<u2")


def _directory(path: Path) -> Documents:
    files = [item for item in sorted(path.rglob("*")) if item.is_file()]
    shown = [item for item in files if not _hidden(item.relative_to(path))]
    read = [item for item in shown if item.suffix.lower() in TEXT]
    if not read:
        raise DataError(
            f"{path} holds no text file", allowed=f"files that end in {', '.join(TEXT)}"
        )
    items = [Document(name=item.relative_to(path).as_posix(), content=_utf8(item)) for item in read]
    return _documents(path, items, {"files_left_out": len(files) - len(read)})


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _lines(path: Path, field: str) -> list[Document]:
    items = []
    for number, line in enumerate(_utf8(path).decode("utf-8-sig").split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path.name} line {number}"
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(
                f"{where} is not JSON: {error}", allowed="one object per line"
            ) from error
        text = record.get(field) if isinstance(record, dict) else None
        if not isinstance(text, str):
            keys = ", ".join(record) if isinstance(record, dict) else type(record).__name__
            raise DataError(
                f"{where} has no text under {field!r}",
                allowed=f"one of its keys, {keys}, that holds a string",
                next_step="name the field",
            )
        items.append(Document(name=where, content=text.encode("utf-8", "replace")))
    return items


def _rows(path: Path, field: str) -> list[Document]:
    """Return the texts of one column; a table without it is nobody's text, and is refused."""
    rows = read_rows(path)
    header = [name.strip() for name in rows[0]] if rows else []
    if header.count(field) != 1:
        raise DataError(
            f"{path.name} is a table without one column {field!r}",
            allowed=f"one of its columns, {', '.join(header) or 'none'}, as the field",
            next_step="name the column that holds text; series of numbers are for sequence models; "
            "as .txt the file is read as it stands",
        )
    place = header.index(field)
    items = []
    for number, row in enumerate(rows[1:], start=2):
        if not row:
            continue
        where = f"{path.name} row {number}"
        check_cells(row, header, where)
        items.append(Document(name=where, content=row[place].encode("utf-8", "replace")))
    return items


def _documents(path: Path, items: list[Document], details: dict[str, Any]) -> Documents:
    filled = tuple(item for item in items if item.content.strip())
    if not filled:
        raise DataError(f"{path} is empty", next_step="give a file with text in it")
    return Documents(
        name=path.name,
        source=f"{number_of(len(filled), 'document')} of {path.name}",
        items=filled,
        details={**details, "empty_documents_left_out": len(items) - len(filled)},
    )


def _utf8(path: Path) -> bytes:
    """Return the bytes of a file that is UTF-8; a byte-order mark is dropped."""
    try:
        content = path.read_bytes()
        content.decode("utf-8")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not UTF-8 text: {error.reason} at byte {error.start}",
            allowed="UTF-8",
            next_step="convert it, or leave it out",
        ) from error
    return content.removeprefix(b"\xef\xbb\xbf")
