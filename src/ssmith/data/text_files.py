"""Text and token ids from the user's own files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ssmith.core.errors import DataError, InputError
from ssmith.core.files import beside
from ssmith.core.text import ALL, Text, TokenStream
from ssmith.core.tokenizer import Tokenizer
from ssmith.core.words import number_of
from ssmith.data.chat import named, turns_of
from ssmith.data.csv_file import CSV, check_cells, read_rows
from ssmith.data.documents import Document, Documents
from ssmith.data.examples_file import form_of
from ssmith.data.files import read_text, require_there, suffix_of
from ssmith.data.npz import check_header
from ssmith.data.records import SUFFIXES as RECORDS
from ssmith.data.records import Row, holds_records, read_records
from ssmith.data.text_splits import stretches, text_of
from ssmith.data.ts_file import TS, is_ts

TEXT = (
    ".txt", ".text", ".md", ".rst", ".py", ".c", ".h", ".cpp", ".js", ".ts", ".java", ".go", ".rs",
    ".xml", ".html", ".css", ".tex", ".log", ".toml", ".yaml", ".yml", ".sh", ".raw", ".tokens",
)  # fmt: skip
TOKENS = (".npy", ".bin")
SUFFIXES = (*TEXT, *RECORDS, *CSV, *TOKENS)


def is_token_file(path: Path) -> bool:
    """Return whether a path's suffix says that it holds token ids."""
    return path.suffix.lower() in TOKENS


def read_documents(
    path: Path, *, field: str = "text", tokenizer: Tokenizer | None = None
) -> Documents:
    """Read a text file, a file of records or a table, or a directory of such; packed or not.

    Hidden files and files of other suffixes in a directory are listed in the details as left out,
    empty documents are counted there. Where a directory holds plain text, only that is read. Raises
    `InputError` if there is nothing, or its suffix is unknown, and `DataError` if it is empty or
    not UTF-8.
    """
    require_there(path)
    if path.is_dir() and not holds_records(path):
        return _directory(path, field, tokenizer)
    return _documents(path, *_read(path, path.name, field, tokenizer))


def _read(
    path: Path, name: str, field: str, tokenizer: Tokenizer | None
) -> tuple[list[Document], dict[str, Any]]:
    suffix = suffix_of(path)
    if holds_records(path):
        records = read_records(path)
        texts = [
            (records.where(place), _text_of(row, records.where(place), field, tokenizer))
            for place, row in enumerate(records.rows)
        ]
        return [_document(where, text) for where, text in texts], {"field": field}
    if suffix in CSV:
        return _rows(path, field), {"field": field}
    if suffix in TEXT:
        text = read_text(path)
        _refuse_series(path, text)
        return [Document(name=name, content=text.encode())], {}
    raise _unreadable(path)


def require_readable(path: Path) -> None:
    """Raise unless a file is of a kind that holds text, before anything of a model is asked."""
    if not (holds_records(path) or suffix_of(path) in (*CSV, *TEXT)):
        raise _unreadable(path)


def _unreadable(path: Path) -> InputError:
    return InputError(
        f"cannot read {str(path)!r} as text", allowed=f"a suffix of {', '.join(SUFFIXES)}"
    )


def _text_of(row: Row, where: str, field: str, tokenizer: Tokenizer | None) -> str:
    """Return the text of a record: that of the field, or its conversation written out."""
    text = row.get(field)
    if isinstance(text, str):
        return text
    form = form_of(row)
    if form in ("messages", "conversations", "instruction") and tokenizer is not None:
        with named(where):
            return tokenizer.render(turns_of(row, where))
    raise DataError(
        f"{where} has no text under {field!r}",
        allowed=f"one of its keys, {', '.join(row) or 'none'}, that holds a string; or a "
        "conversation",
        next_step="name the field",
    )


def _document(where: str, text: str) -> Document:
    try:
        return Document(name=where, content=text.encode())
    except UnicodeEncodeError as error:
        raise DataError(
            f"{where} holds half of a surrogate pair, {text[error.start]!a}, at character "
            f"{error.start}",
            allowed="whole characters",
            next_step="repair the text where it was written",
        ) from error


def _refuse_series(path: Path, text: str) -> None:
    """Refuse the series format that shares its suffix with TypeScript."""
    if suffix_of(path) == TS and is_ts(text):
        raise DataError(
            f"{path.name} holds series of numbers in the .ts format, and is no text",
            allowed="text",
            next_step="give it to a sequence model, or a head: load_data reads it",
        )


def read_token_file(path: Path, *, vocabulary: int | None) -> Text:
    """Read token ids: ``.npy`` with one axis of integers, or ``.bin`` of 16-bit little-endian.

    Without a ``vocabulary`` it is the largest id plus one; how many bytes tokens stand for is not
    known. Raises `InputError` if there is no such file, `DataError` if it is empty, holds no
    integers, or an id the model does not know.
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
        with path.open("rb") as stream:
            check_header(stream, path.stat().st_size)
            ids = np.load(stream, allow_pickle=False)
    except (ValueError, OSError, EOFError, MemoryError) as error:
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


def _directory(path: Path, field: str, tokenizer: Tokenizer | None) -> Documents:
    files = [item for item in sorted(path.rglob("*")) if item.is_file()]
    shown = [item for item in files if not _hidden(item.relative_to(path))]
    read = [item for item in shown if suffix_of(item) in TEXT]
    if not read:
        read = [item for item in shown if suffix_of(item) in RECORDS]
    if not read:
        raise DataError(
            f"{path} holds no text file",
            allowed=f"files that end in {', '.join((*TEXT, *RECORDS))}",
        )
    items = []
    for item in read:
        items += _read(item, item.relative_to(path).as_posix(), field, tokenizer)[0]
    return _documents(path, items, {"files_left_out": len(files) - len(read)})


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _rows(path: Path, field: str) -> list[Document]:
    """Return the texts of one column; a table without it is nobody's text, and is refused."""
    rows = read_rows(path, "\t" if suffix_of(path) == ".tsv" else ",")
    header = [name.strip() for name in next(rows, (0, []))[1]]
    if header.count(field) != 1:
        raise DataError(
            f"{path.name} is a table without one column {field!r}",
            allowed=f"one of its columns, {', '.join(header) or 'none'}, as the field",
            next_step="name the column that holds text; series of numbers are for sequence models; "
            "as .txt the file is read as it stands",
        )
    place = header.index(field)
    items = []
    for number, row in rows:
        where = f"{path.name} row {number}"
        check_cells(row, header, where)
        items.append(_document(where, row[place]))
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
