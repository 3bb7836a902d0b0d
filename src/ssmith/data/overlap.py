"""How much of a document stands in others too: by runs of equal lines."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ssmith.data.documents import Document

# Five lines with content in a row: a licence header or a loop idiom is rarely that long.
RUN = 5


@dataclass(frozen=True)
class Overlap:
    """Digests of all runs of lines in a set of documents, to hold others against."""

    runs: frozenset[bytes]

    def share(self, document: Document) -> float:
        """Return the fraction of a document's runs of lines that are in the set, in [0, 1]."""
        found = list(_runs(document.content))
        return sum(run in self.runs for run in found) / len(found) if found else 0.0


def overlap_with(documents: Iterable[Document]) -> Overlap:
    """Return what documents hold."""
    return Overlap(frozenset(run for item in documents for run in _runs(item.content)))


def _runs(content: bytes) -> Iterator[bytes]:
    """Yield a digest of every run of non-blank lines, indentation aside."""
    lines = [line for line in map(bytes.strip, content.split(b"\n")) if line]
    for start in range(len(lines) - RUN + 1):
        joined = b"\n".join(lines[start : start + RUN])
        yield hashlib.blake2b(joined, digest_size=8).digest()
