"""Tokenizers: plain bytes, or the one that stands beside a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssmith.core.errors import ArtefactError, DataError
from ssmith.core.optional import require
from ssmith.core.tokenizer import Tokenizer

BYTES = 256
_FILES = ("tokenizer.json", "tokenizer_config.json")


@dataclass(frozen=True, kw_only=True)
class ByteTokenizer:
    """UTF-8 bytes as token ids; byte 0, which no text holds, ends a text.

    Args:
        vocabulary: number of token ids of the model, ≥ 256; those above 255 are never produced.
    """

    vocabulary: int = BYTES
    name: str = "bytes"
    end: int = 0

    def encode(self, text: str) -> list[int]:
        """Return the bytes of a text."""
        if "\x00" in text:
            raise DataError(
                "a text holds the character 0, which marks the end", allowed="any other"
            )
        return list(text.encode())

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of some bytes; what is not UTF-8 becomes the replacement character."""
        return bytes(item for item in ids if 0 < item < BYTES).decode(errors="replace")


@dataclass(frozen=True, kw_only=True)
class ModelTokenizer:
    """A tokenizer that transformers opened.

    Args:
        inner: the transformers tokenizer.
        name: where it comes from.
        vocabulary: number of token ids of the model.
    """

    inner: Any
    name: str
    vocabulary: int

    @property
    def end(self) -> int | None:
        """The id that ends a text; None if there is none."""
        found = self.inner.eos_token_id
        return None if found is None else int(found)

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text."""
        ids: list[int] = self.inner.encode(text, add_special_tokens=False)
        if ids and max(ids) >= self.vocabulary:
            raise DataError(
                f"the tokenizer gives id {max(ids)}",
                allowed=f"0 to {self.vocabulary - 1}, the model's vocabulary",
                next_step="use the tokenizer of this model",
            )
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of some ids, special ones left out."""
        text: str = self.inner.decode(list(ids), skip_special_tokens=True)
        return text


def find_tokenizer(directory: Path | None, vocabulary: int) -> Tokenizer:
    """Return the tokenizer of a model: its own, or bytes.

    Args:
        directory: of the model; None if it has none.
        vocabulary: number of its token ids.

    Returns:
        The tokenizer whose files stand in the directory; bytes where there is none and the
        vocabulary is 256.

    Raises:
        DataError: if there is no tokenizer and the vocabulary is not one of bytes.
        ArtefactError: if transformers cannot open the files.
        MissingExtraError: if transformers is needed and not installed.
    """
    if directory is not None and any((directory / name).is_file() for name in _FILES):
        return _opened(directory, vocabulary)
    if vocabulary == BYTES:
        return ByteTokenizer()
    raise DataError(
        f"the model has {vocabulary} token ids and no tokenizer beside it",
        allowed=f"{' or '.join(_FILES)} in the model's directory, or {BYTES} ids for bytes",
        next_step="copy the tokenizer's files into the model's directory",
    )


def _opened(directory: Path, vocabulary: int) -> ModelTokenizer:
    transformers = require("transformers", extra="hf", purpose="the model's tokenizer")
    try:
        inner = transformers.AutoTokenizer.from_pretrained(
            directory, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:
        # transformers raises many kinds for files that are not its own.
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ArtefactError(
            f"{directory}: transformers cannot open the tokenizer: {reason}",
            next_step="restore it from its source",
        ) from error
    return ModelTokenizer(inner=inner, name=type(inner).__name__, vocabulary=vocabulary)
