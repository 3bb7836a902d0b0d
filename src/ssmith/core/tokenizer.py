"""What turns text into token ids and back, as every room sees it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable


@runtime_checkable
class Tokenizer(Protocol):
    """Text to token ids and back."""

    @property
    def name(self) -> str:
        """What a receipt calls it."""

    @property
    def vocabulary(self) -> int:
        """Number of token ids."""

    @property
    def end(self) -> int | None:
        """The id that ends a text; None if there is none."""

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text, without any that mark its begin or end."""

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of some ids; ids that stand for no text leave no trace."""
