"""Documents as one stream of token ids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Int32
from torch import Tensor

from ssmith.core.text import TokenStream
from ssmith.core.tokenizer import Tokenizer
from ssmith.data.documents import Document
from ssmith.data.tokenizers import ByteTokenizer


def stream_of(items: Sequence[Document], tokenizer: Tokenizer) -> TokenStream:
    """Return the token ids of documents, joined by the id that ends a text where there is one.

    And the bytes each stands for where the tokenizer tells; the byte 0 between documents read as
    bytes counts as a byte of the text, any other end of a text as none. Raises `DataError` if an id
    is outside the model's vocabulary.
    """
    if isinstance(tokenizer, ByteTokenizer):
        return _bytes(items)
    parts = [_document(item, tokenizer) for item in items]
    end = [] if tokenizer.end is None else [tokenizer.end]
    between = torch.tensor(end, dtype=torch.int32)
    ids = [part for document, _ in parts for part in (document, between)]
    sizes = [size for _, size in parts]
    known = all(size is not None for size in sizes)
    widths = [part for size in sizes if size is not None for part in (size, 0 * between)]
    return TokenStream(
        ids=torch.cat(ids) if ids else between[:0],
        text_bytes=torch.cat(widths) if known and widths else None,
    )


def describe(tokenizer: Tokenizer) -> dict[str, Any]:
    """Return what turned documents into ids and what marks them, JSON-ready."""
    between = "nothing" if tokenizer.end is None else f"id {tokenizer.end}"
    return {
        "tokenizer": tokenizer.name,
        "between_documents": between,
        "before_each_row": ids_said(tokenizer.begin),
    }


def ids_said(ids: Sequence[int]) -> str:
    """Return some ids in words."""
    return f"id {', '.join(map(str, ids))}" if ids else "nothing"


def _bytes(items: Sequence[Document]) -> TokenStream:
    joined = bytearray(b"\0".join(item.content for item in items))
    ids = torch.frombuffer(joined, dtype=torch.uint8) if joined else torch.zeros(0).byte()
    return TokenStream(ids=ids, text_bytes=torch.ones_like(ids))


def _document(
    item: Document, tokenizer: Tokenizer
) -> tuple[Int32[Tensor, "t"], Int32[Tensor, "t"] | None]:
    text = item.content.decode()
    ids, ends = tokenizer.placed(text)
    widths = None if ends is None else _widths(text, ends)
    return torch.tensor(ids, dtype=torch.int32), widths


def _widths(text: str, ends: Sequence[int]) -> Int32[Tensor, "t"]:
    """Return how many bytes of the text each token adds to those before it.

    Tokens that share one character share its place: its bytes count with the first of them. What
    a tokenizer leaves out (some drop blanks) counts with the token after it, and at the end with
    the last, so that the sum is the text's length.
    """
    widths = np.fromiter((len(item.encode()) for item in text), dtype=np.int64, count=len(text))
    bytes_before = np.concatenate([[0], np.cumsum(widths)])
    reached = np.maximum.accumulate(np.array(ends, dtype=np.int64))
    covered = bytes_before[reached] if len(reached) else np.zeros(0, dtype=np.int64)
    if len(covered):
        covered[-1] = bytes_before[-1]
    return torch.from_numpy(np.diff(covered, prepend=0).astype(np.int32))
