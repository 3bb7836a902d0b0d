"""Texts a language model is tuned on: token rows, with what of them is learned."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from jaxtyping import Int64
from torch import Tensor

from ssmith.core.splits import data_section, part_named

TextTask = Literal["language", "classification", "regression"]


@dataclass(frozen=True, kw_only=True)
class Example:
    """One text.

    Args:
        ids: its token ids.
        start: the first position that is learned; what lies before it is a prompt. 0 where
            everything is learned, or where ``target`` is.
        gaps: stretches behind ``start`` that are not learned either, as (first, one after the
            last): what others say between the answers of a conversation.
        target: class index or number that is learned from the text; None for language.
        references: answers that generation is compared with.
    """

    ids: Int64[Tensor, "l"]
    start: int = 0
    gaps: tuple[tuple[int, int], ...] = ()
    target: int | float | None = None
    references: tuple[str, ...] = ()

    @property
    def learned(self) -> int:
        """Tokens that are predicted and learned; the first of a text has nothing before it."""
        between = sum(stop - start for start, stop in self.gaps)
        return len(self.ids) - max(self.start, 1) - between if self.target is None else 0

    @property
    def asked(self) -> int:
        """Tokens before the last answer: all that generation is given."""
        return self.gaps[-1][1] if self.gaps else self.start


@dataclass(frozen=True, kw_only=True)
class ExampleData:
    """A tuning data set in its splits.

    Args:
        name: what users call it.
        task: what is learned.
        splits: split name → examples; train fits, validation stops, test is read once at the end.
        classes: names of the classes, in index order (classification).
        vocabulary: number of token ids.
        sha256: digest over all ids, starts and targets.
        source: where it comes from, in words.
        details: tokenizer, lengths, what was cut and how it was split, JSON-ready.
    """

    name: str
    task: TextTask
    splits: dict[str, tuple[Example, ...]]
    classes: tuple[str, ...] = ()
    vocabulary: int
    sha256: str
    source: str = ""
    details: dict[str, Any] = field(default_factory=dict)

    def split(self, name: str) -> tuple[Example, ...]:
        """Return one split."""
        return part_named(self.splits, name, data=self.name)

    def describe(self) -> dict[str, Any]:
        """Return the data section of a receipt."""
        return data_section(
            self.name,
            self.splits,
            sha256=self.sha256,
            source=self.source,
            details=self.details,
        )
