"""Text as token ids in splits, and how rows of equal length are cut from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Integer
from torch import Tensor

from ssmith.core.checks import check_integer
from ssmith.core.errors import DataError, InputError
from ssmith.core.seeds import generator
from ssmith.core.tokens import TokenWindows
from ssmith.core.words import number_of

ALL = "all"


@dataclass(frozen=True, kw_only=True)
class TokenStream:
    """Token ids of one stretch of text, documents joined.

    Args:
        ids: token ids, of any integer type.
        text_bytes: UTF-8 bytes each token stands for; None if not known.
    """

    ids: Integer[Tensor, "t"]
    text_bytes: Integer[Tensor, "t"] | None = None

    def __len__(self) -> int:
        return self.ids.shape[0]

    def rows(self, starts: list[int], length: int) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return ids, lengths and bytes of rows that start at the given tokens, padded with 0."""
        lengths = torch.tensor([min(length, len(self) - start) for start in starts])
        ids = torch.zeros(len(starts), int(lengths.max()), dtype=torch.int64)
        sizes = None if self.text_bytes is None else torch.zeros_like(ids)
        for row, (start, valid) in enumerate(zip(starts, lengths.tolist(), strict=True)):
            ids[row, :valid] = self.ids[start : start + valid]
            if sizes is not None and self.text_bytes is not None:
                sizes[row, :valid] = self.text_bytes[start : start + valid]
        return ids, lengths, sizes


@dataclass(frozen=True, kw_only=True)
class Text:
    """A text as token ids, in splits that share no document (or, of one document, no stretch).

    ``train`` calibrates and fits, ``validation`` watches, ``selection`` chooses how much to cut,
    ``test`` is looked at once, at the end. ``all`` is the whole text.

    Args:
        name: what users call it.
        splits: split name → token ids.
        vocabulary: number of token ids the tokenizer knows.
        source: where it comes from, in words.
        sha256: digest over the token ids of all splits.
        details: how it was read, joined and split, JSON-ready.
        begin: ids that the tokenizer itself puts before a text; every row begins with them, and
            they are never counted.
    """

    name: str
    splits: dict[str, TokenStream]
    vocabulary: int
    source: str = ""
    sha256: str = ""
    details: dict[str, Any] = field(default_factory=dict)
    begin: tuple[int, ...] = ()

    def split(self, name: str) -> TokenStream:
        """Return one split."""
        if name not in self.splits:
            raise InputError(f"split {name!r}", allowed=", ".join(self.splits))
        found = self.splits[name]
        if len(found) < 2:
            raise DataError(
                f"split {name!r} of {self.name} has {number_of(len(found), 'token')}",
                allowed="at least 2",
                next_step="give a longer text, or the split all",
            )
        return found

    def sample(
        self, samples: int, length: int, *, seed: int = 0, split: str = "train"
    ) -> TokenWindows:
        """Draw rows at random places, e.g. to calibrate on.

        The first k of more samples are the k samples of the same seed.

        Args:
            samples: number of rows, ≥ 1; no two start at the same token.
            length: tokens of each row, ≥ 2, those that mark its begin among them.
            seed: of the draw, any integer ≥ 0.
            split: where to draw from.

        Returns:
            The rows; none is padded.

        Raises:
            InputError: if an argument is outside its domain.
            DataError: if the split is too short; the message says what fits.
        """
        check_integer("samples", samples, at_least=1)
        check_integer("length", length, at_least=2)
        stream, room = self.split(split), self._room(length)
        places = len(stream) - room + 1
        if places < samples:
            fits = f"at most {len(stream) - samples + 1} tokens each"
            raise DataError(
                f"{samples} samples of {length} tokens do not fit into split {split!r} of "
                f"{self.name}, which has {number_of(len(stream), 'token')}",
                allowed=fits if len(stream) > samples else f"at most {len(stream) - 1} samples",
                next_step="lower samples or length, or give a longer text",
            )
        draw = generator(seed, "windows", self.sha256, split)
        starts: dict[int, None] = {}
        while len(starts) < samples:
            starts.setdefault(int(torch.randint(places, (), generator=draw)))
        how = {"samples": samples, "length": length, "seed": seed, "split": split, "at": "random"}
        return self._windows(stream, list(starts), room, overlap=0, how=how)

    def windows(
        self, length: int, *, stride: int | None = None, split: str = "test", tail: bool = True
    ) -> TokenWindows:
        """Cut a split into rows from its start to its end, e.g. to measure perplexity on.

        A row's first token is never counted: nothing precedes it. With a smaller stride a row
        repeats the end of the one before as context, and only what is new in it is counted.

        Args:
            length: tokens of each row, ≥ 2, those that mark its begin among them.
            stride: tokens of the text between the starts of rows, 1 to ``length``; None or
                ``length`` for rows that do not overlap.
            split: what to cut.
            tail: keep a shorter last row, padded.

        Returns:
            The rows; their details say how many tokens are in none.

        Raises:
            InputError: if an argument is outside its domain.
            DataError: if the split holds no row.
        """
        check_integer("length", length, at_least=2)
        step = length if stride is None else stride
        check_integer("stride", step, at_least=1)
        if step > length:
            raise InputError(f"stride is {step}", allowed=f"at most length, {length}")
        stream, room = self.split(split), self._room(length)
        step = min(step, room)
        overlap = room - step
        # A row is worth cutting if it brings at least one token that is counted.
        known = max(overlap, 0 if self.begin else 1)
        starts = [0, *range(step, len(stream) - known, step)]
        if not tail:
            starts = [start for start in starts if start + room <= len(stream)]
        if not starts:
            raise DataError(
                f"split {split!r} of {self.name} has {number_of(len(stream), 'token')}, "
                "which is no whole row",
                allowed=f"rows of at most {len(stream)} tokens",
                next_step="lower length, keep the tail, or give a longer text",
            )
        left = len(stream) - min(starts[-1] + room, len(stream))
        how = {
            "length": length,
            "stride": step,
            "split": split,
            "at": "one after another",
            "tokens_in_no_row": left,
        }
        return self._windows(stream, starts, room, overlap=overlap, how=how)

    def _room(self, length: int) -> int:
        """Return how many tokens of the text a row of some length holds."""
        room = length - len(self.begin)
        if room < 1:
            raise InputError(f"length is {length}", allowed=f"at least {len(self.begin) + 1}")
        return room

    def _windows(
        self,
        stream: TokenStream,
        starts: list[int],
        room: int,
        *,
        overlap: int,
        how: dict[str, Any],
    ) -> TokenWindows:
        ids, lengths, sizes = stream.rows(starts, room)
        begin = torch.tensor(self.begin, dtype=ids.dtype).expand(len(ids), -1)
        ids, lengths = torch.cat([begin, ids], dim=1), lengths + begin.shape[1]
        sizes = None if sizes is None else torch.cat([torch.zeros_like(begin), sizes], dim=1)
        scored_from = torch.full_like(lengths, max(1, begin.shape[1] + overlap))
        scored_from[0] = max(1, begin.shape[1])
        if sizes is not None:
            counted = torch.arange(ids.shape[1]) >= scored_from.unsqueeze(1)
            sizes = (sizes * counted).sum(dim=1)
        return TokenWindows(
            ids=ids,
            lengths=lengths,
            scored_from=scored_from,
            text_bytes=sizes,
            vocabulary=self.vocabulary,
            name=self.name,
            source=self.source,
            sha256=self.sha256,
            details={**self.details, **how},
        )
