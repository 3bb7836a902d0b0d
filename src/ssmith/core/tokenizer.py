"""What turns text into token ids and back, as every room sees it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable


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

    @property
    def begin(self) -> tuple[int, ...]:
        """The ids that the tokenizer itself puts before a text; none for most."""

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text, without any that mark its begin or end."""

    def placed(self, text: str) -> tuple[list[int], list[int] | None]:
        """Return the ids of a text, and after how many characters each ends, if that is known."""

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of some ids; ids that stand for no text leave no trace."""

    def render(self, turns: Sequence[Mapping[str, Any]], *, asked: bool = False) -> str:
        """Return a conversation as one text, by the model's own template, with its special tokens.

        Turns have ``role`` and ``content``; ``asked``: it ends where the assistant is to answer.
        Raises `DataError` if there is no template, or it refuses these turns.
        """


def begun(tokenizer: Tokenizer, ids: list[int]) -> list[int]:
    """Return ids with what the tokenizer puts before a text, once."""
    begin = list(tokenizer.begin)
    return ids if ids[: len(begin)] == begin else begin + ids


def ended(tokenizer: Tokenizer, ids: list[int]) -> list[int]:
    """Return ids with the one that ends a text, once."""
    if tokenizer.end is None or ids[-1:] == [tokenizer.end]:
        return ids
    return [*ids, tokenizer.end]
