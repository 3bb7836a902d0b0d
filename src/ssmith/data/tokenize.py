"""Tokenizers: bytes, or the one that lies beside a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from ssmith.core.errors import ArtefactError
from ssmith.core.optional import require
from ssmith.core.text import TokenStream
from ssmith.data.documents import Document

BYTES = 256
_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "tokenizer_config.json")


class Tokenizer(Protocol):
    """Turns documents into token ids."""

    @property
    def vocabulary(self) -> int:
        """Number of token ids it can give."""

    @property
    def describe(self) -> dict[str, Any]:
        """What it is and what it puts between documents, JSON-ready."""

    def stream(self, items: tuple[Document, ...]) -> TokenStream:
        """Return the token ids of documents, joined."""


class ByteTokenizer:
    """Every byte of the UTF-8 text is a token; a NUL byte stands between documents."""

    vocabulary = BYTES

    @property
    def describe(self) -> dict[str, Any]:
        """What it is, JSON-ready."""
        return {"tokenizer": "bytes", "between_documents": "one byte 0"}

    def stream(self, items: tuple[Document, ...]) -> TokenStream:
        """Return the bytes of documents, joined by one NUL.

        Args:
            items: the documents.

        Returns:
            One token per byte; the NULs count as bytes of the text.
        """
        joined = bytearray(b"\0".join(item.content for item in items))
        ids = torch.frombuffer(joined, dtype=torch.uint8) if joined else _empty(torch.uint8)
        return TokenStream(ids=ids, text_bytes=torch.ones_like(ids))


class FileTokenizer:
    """The tokenizer that lies beside a model, opened by transformers without remote code.

    Args:
        directory: of the model.

    Raises:
        ArtefactError: if transformers cannot open it.
        MissingExtraError: if transformers is not installed.
    """

    def __init__(self, directory: Path) -> None:
        transformers = require("transformers", extra="hf", purpose="a model's tokenizer")
        try:
            self._inner: Any = transformers.AutoTokenizer.from_pretrained(
                str(directory), local_files_only=True, trust_remote_code=False, use_fast=True
            )
        except Exception as error:
            # transformers raises many kinds for files that are not its own.
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise ArtefactError(
                f"{directory}: transformers cannot open its tokenizer: {reason}",
                next_step="restore tokenizer.json from the model's source",
            ) from error
        self._directory = directory

    @property
    def vocabulary(self) -> int:
        """Number of token ids it can give."""
        return len(self._inner)

    @property
    def describe(self) -> dict[str, Any]:
        """What it is, JSON-ready."""
        kind = type(self._inner).__name__
        between = "nothing" if self._end is None else f"token {self._end}, the end of a text"
        return {"tokenizer": f"{kind} of {self._directory.name}", "between_documents": between}

    @property
    def _end(self) -> int | None:
        end: int | None = self._inner.eos_token_id
        return end

    def stream(self, items: tuple[Document, ...]) -> TokenStream:
        """Return the token ids of documents, joined by the token that ends a text.

        Args:
            items: the documents; a byte-order mark is dropped.

        Returns:
            Token ids with the bytes they stand for, where the tokenizer tells.
        """
        ids: list[Tensor] = []
        sizes: list[Tensor] = []
        for item in items:
            text = item.content.decode("utf-8-sig")
            fast = bool(self._inner.is_fast)
            made = self._inner(
                text, add_special_tokens=False, return_offsets_mapping=fast, verbose=False
            )
            ids.append(torch.tensor(made["input_ids"], dtype=torch.int32))
            if fast:
                sizes.append(_bytes_per_token(text, made["offset_mapping"]))
            if self._end is not None:
                ids.append(torch.tensor([self._end], dtype=torch.int32))
                sizes.append(torch.zeros(1, dtype=torch.int32))
        known = bool(self._inner.is_fast)
        return TokenStream(
            ids=torch.cat(ids) if ids else _empty(torch.int32),
            text_bytes=torch.cat(sizes) if known and sizes else None,
        )


def tokenizer_beside(directory: Path | None) -> Tokenizer | None:
    """Return the tokenizer in a model's directory; None if there is none.

    Args:
        directory: of the model, or None.

    Returns:
        The tokenizer.
    """
    if directory is None or not any((directory / name).is_file() for name in _FILES):
        return None
    return FileTokenizer(directory)


def _bytes_per_token(text: str, offsets: list[tuple[int, int]]) -> Int[Tensor, "t"]:
    """Return how many bytes of the text each token adds to those before it.

    Tokens that split one character share its offsets: its bytes count with the first of them.
    """
    widths = np.fromiter((len(item.encode()) for item in text), dtype=np.int64, count=len(text))
    ends = np.concatenate([[0], np.cumsum(widths)])
    reached = np.maximum.accumulate(np.array([end for _, end in offsets], dtype=np.int64))
    covered = ends[reached] if len(reached) else np.zeros(0, dtype=np.int64)
    added = np.diff(covered, prepend=0)
    return torch.from_numpy(added.astype(np.int32))


def _empty(dtype: torch.dtype) -> Tensor:
    return torch.zeros(0, dtype=dtype)
