"""One door to text: a file, a directory, a named source, or token ids."""

from __future__ import annotations

from pathlib import Path

from ssmith.core.errors import InputError
from ssmith.core.text import Text
from ssmith.core.tokenizer import Tokenizer
from ssmith.data.documents import Documents
from ssmith.data.python_prose import PROSE, read_prose
from ssmith.data.python_sources import STDLIB, read_stdlib
from ssmith.data.text_files import (
    SUFFIXES,
    is_token_file,
    read_documents,
    read_token_file,
    require_readable,
)
from ssmith.data.text_splits import split_text
from ssmith.data.tokenizers import BYTES, find_tokenizer

STDLIB_SPEC = f"{STDLIB}:"
PROSE_SPEC = f"{PROSE}:"
NAMED = {STDLIB_SPEC: read_stdlib, PROSE_SPEC: read_prose}


def load_text(
    spec: str | Path,
    *,
    tokenizer: Path | None = None,
    vocabulary: int | None = None,
    field: str = "text",
    seed: int = 0,
) -> Text:
    """Load a text as token ids in four splits (see `Text`).

    A text file is one document, a file of records (JSON lines or an array, Parquet, the directory
    of a data set) one per record, a ``.csv`` file one per row, a directory one per text file in
    it, sorted by path; all but Parquet may be packed (``.gz``). Conversations are written out by
    the model's chat template. Token files hold ids already: ``.npy`` any
    integers, ``.bin`` unsigned 16-bit little-endian.

    Args:
        spec: ``stdlib:`` or ``pydoc:`` (sources of the Python that runs, or prose of its
            reference), a file or a directory.
        tokenizer: directory of a model; its tokenizer is used if it has one.
        vocabulary: number of token ids the model knows; without a tokenizer only 256 can read
            text (as bytes).
        field: key of the text in each record, or column of a ``.csv`` file.
        seed: of the draw of the splits; it belongs to the data.

    Returns:
        The text.

    Raises:
        InputError: if there is nothing at ``spec`` or its kind is unknown.
        DataError: if it is empty, not UTF-8, or does not fit the model.
        MissingExtraError: if a tokenizer needs a package that is not installed.
    """
    path = Path(spec)
    if str(spec) not in NAMED and is_token_file(path):
        return read_token_file(path, vocabulary=vocabulary)
    if path.is_file():
        require_readable(path)
    found = find_tokenizer(tokenizer, BYTES if vocabulary is None else vocabulary)
    return split_text(read_source(spec, field=field, tokenizer=found), found, seed=seed)


def read_source(
    spec: str | Path, *, field: str = "text", tokenizer: Tokenizer | None = None
) -> Documents:
    """Read the documents of a source; a tokenizer writes conversations out."""
    if str(spec) in NAMED:
        return NAMED[str(spec)]()
    if ":" in str(spec) and not Path(spec).exists():
        raise InputError(
            f"there is no text {str(spec)!r}",
            allowed=f"{', '.join(NAMED)}, a directory, or a file that ends in "
            f"{', '.join(SUFFIXES)}",
        )
    return read_documents(Path(spec), field=field, tokenizer=tokenizer)
