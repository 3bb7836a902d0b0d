"""Texts a language model is tuned on: token rows, with what of them is learned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Int64
from torch import Tensor

from ssmith.core.splits import InSplits

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
class ExampleData(InSplits[tuple[Example, ...]]):
    """A tuning data set in its splits: train fits, validation stops, test is read at the end.

    Args:
        task: what is learned.
        classes: names of the classes, in index order (classification).
        vocabulary: number of token ids.
    """

    task: TextTask
    classes: tuple[str, ...] = ()
    vocabulary: int
