"""The four splits of a text: whole documents, or stretches of a single one."""

from __future__ import annotations

import hashlib
from typing import Any

import torch

from ssmith.core.seeds import generator
from ssmith.core.sequences import SPLITS
from ssmith.core.text import ALL, Text, TokenStream
from ssmith.core.tokenizer import Tokenizer
from ssmith.data.documents import Document, Documents
from ssmith.data.splitting import FRACTIONS
from ssmith.data.streams import describe, stream_of

# With fewer documents than this a draw would make splits of very unequal size.
_ENOUGH = 20


def split_text(documents: Documents, tokenizer: Tokenizer, *, seed: int) -> Text:
    """Turn documents into a text in splits; ``all`` holds every one in the source's order.

    From twenty documents on they are drawn into the splits as wholes, in a seeded order; fewer are
    joined, and the stream is cut into stretches one after another.
    """
    everything = stream_of(documents.items, tokenizer)
    if len(documents.items) >= _ENOUGH:
        parts = {
            name: stream_of(items, tokenizer)
            for name, items in _drawn(documents.items, seed).items()
        }
        how: dict[str, Any] = {"split_of": "whole documents, drawn", "split_seed": seed}
    else:
        parts = stretches(everything)
        how = {"split_of": "stretches, one after another"}
    return text_of(
        documents.name,
        {ALL: everything, **parts},
        vocabulary=tokenizer.vocabulary,
        begin=tokenizer.begin,
        source=documents.source,
        details={
            **documents.details,
            **describe(tokenizer),
            **how,
            "documents": len(documents.items),
            "split_fractions": dict(FRACTIONS),
        },
    )


def text_of(
    name: str,
    splits: dict[str, TokenStream],
    *,
    vocabulary: int,
    source: str,
    details: dict[str, Any],
    begin: tuple[int, ...] = (),
) -> Text:
    """Return a text with the digest of its token ids."""
    digest = hashlib.sha256()
    for split in (ALL, *SPLITS):
        stream = splits[split]
        digest.update(f"{split}:{len(stream)};".encode())
        # One width for all, so that a text is the same whatever type holds its ids.
        for part in stream.ids.split(1 << 22):
            digest.update(part.to(torch.int32).numpy().tobytes())
    return Text(
        name=name,
        splits=splits,
        vocabulary=vocabulary,
        source=source,
        sha256=digest.hexdigest(),
        details=details,
        begin=begin,
    )


def stretches(stream: TokenStream) -> dict[str, TokenStream]:
    """Cut one stream into the four splits, one after another."""
    parts, start, share = {}, 0, 0.0
    for name in SPLITS:
        share += FRACTIONS[name]
        end = round(share * len(stream))
        parts[name] = TokenStream(
            ids=stream.ids[start:end],
            text_bytes=None if stream.text_bytes is None else stream.text_bytes[start:end],
        )
        start = end
    return parts


def _drawn(items: tuple[Document, ...], seed: int) -> dict[str, tuple[Document, ...]]:
    """Give each document, in a drawn order, to the split that lacks most of its share of bytes."""
    order = torch.randperm(len(items), generator=generator(seed, "split documents")).tolist()
    total = sum(len(item.content) for item in items)
    lacks = {name: FRACTIONS[name] * total for name in SPLITS}
    parts: dict[str, list[Document]] = {name: [] for name in SPLITS}
    for place in order:
        name = max(SPLITS, key=lambda split: lacks[split])
        parts[name].append(items[place])
        lacks[name] -= len(items[place].content)
    return {name: tuple(part) for name, part in parts.items()}
