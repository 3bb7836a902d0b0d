"""Documents: named pieces of text, before any tokenizer has seen them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ssmith.core.errors import DataError


@dataclass(frozen=True, kw_only=True)
class Document:
    """One piece of text, UTF-8, by a path relative to its source."""

    name: str
    content: bytes


@dataclass(frozen=True, kw_only=True)
class Documents:
    """Documents of one source, in a fixed order.

    Args:
        name: what users call the source.
        source: where it comes from, in words.
        items: the documents, at least one, none empty.
        details: how they were read, JSON-ready.

    Raises:
        DataError: if there is none.
    """

    name: str
    source: str
    items: tuple[Document, ...]
    details: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.items:
            raise DataError(f"{self.name} has no text", next_step="check what it holds")

    @property
    def sha256(self) -> str:
        """Digest over names and bytes of all documents."""
        return digest_documents(self.items)

    @property
    def size(self) -> int:
        """Bytes of all documents."""
        return sum(len(item.content) for item in self.items)


def digest_documents(items: Sequence[Document]) -> str:
    """Return the SHA-256 over names and bytes of documents, in their order."""
    digest = hashlib.sha256()
    for item in items:
        digest.update(f"{item.name}\x1f{len(item.content)}\x1f".encode())
        digest.update(item.content)
    return digest.hexdigest()
