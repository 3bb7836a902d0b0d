"""Texts whose answer stands far back in them: what a state or a cache must have kept.

Perplexity hardly shows whether a model recalls: few tokens of usual text need it. Three tasks,
each a text with places that are asked: a copy of a random word, the values of random keys, and a
pass key in unrelated text.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from ssmith.core.checks import check_integer
from ssmith.core.errors import InputError
from ssmith.core.recall import RecallRows
from ssmith.core.seeds import generator
from ssmith.core.text import TokenStream
from ssmith.core.tokenizer import Tokenizer

LETTERS = "abcdefghijklmnopqrstuvwxyz"
DIGITS = "0123456789"
COPY, ASSOCIATIVE, PASSKEY = "copy", "associative", "passkey"


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A piece of a text; one that is asked is to be predicted from all before it."""

    text: str
    asked: bool = False


@dataclass(frozen=True, kw_only=True)
class Recalled:
    """A text in pieces: what is to be kept, and after a gap what is asked.

    Unrelated text belongs into the gap; how much of it is for the caller to say.
    """

    kept: str
    asked: tuple[Piece, ...]


def _word(letters: str, length: int, draw: torch.Generator) -> str:
    places = torch.randint(len(letters), (length,), generator=draw).tolist()
    return "".join(letters[place] for place in places)


def _copy(size: int, draw: torch.Generator) -> Recalled:
    word = _word(LETTERS, size, draw)
    return Recalled(
        kept=f"copy: {word}\n",
        asked=(Piece(text="\ncopy: "), Piece(text=word, asked=True), Piece(text="\n")),
    )


def _associative(size: int, draw: torch.Generator) -> Recalled:
    keys = torch.randperm(len(LETTERS) ** 2, generator=draw)[:size].tolist()
    names = [LETTERS[key // len(LETTERS)] + LETTERS[key % len(LETTERS)] for key in keys]
    values = [_word(LETTERS + DIGITS, 2, draw) for _ in names]
    pieces = [Piece(text="\n")]
    for place in torch.randperm(size, generator=draw).tolist():
        pieces += [Piece(text=f"{names[place]}: "), Piece(text=values[place], asked=True)]
        pieces.append(Piece(text="\n"))
    kept = "".join(f"{name}: {value}\n" for name, value in zip(names, values, strict=True))
    return Recalled(kept=kept, asked=tuple(pieces))


def _passkey(size: int, draw: torch.Generator) -> Recalled:
    key = _word(DIGITS, size, draw)
    return Recalled(
        kept=f"The pass key is {key}. Remember it.\n",
        asked=(Piece(text="\nThe pass key is "), Piece(text=key, asked=True), Piece(text=".\n")),
    )


_MAKERS: dict[str, tuple[Callable[[int, torch.Generator], Recalled], int]] = {
    COPY: (_copy, 16),
    ASSOCIATIVE: (_associative, 16),
    PASSKEY: (_passkey, 5),
}
"""By task: what makes a text of a size, and the usual size: letters, pairs, digits."""
RECALL_TASKS = tuple(_MAKERS)


def recall_texts(task: str, count: int, *, seed: int = 0, size: int = 0) -> list[Recalled]:
    """Return texts of one task in pieces, ``"copy"``, ``"associative"`` or ``"passkey"``.

    ``size`` are letters to copy, pairs of key and value, or digits of the pass key; 0 for 16, 16
    and 5. Raises `InputError` if there is no such task, or the count or size is out of range.
    """
    if task not in _MAKERS:
        raise InputError(f"recall task {task!r}", allowed=", ".join(RECALL_TASKS))
    check_integer("count", count, at_least=1)
    check_integer("size", size, at_least=0)
    draw = generator(seed, "recall", task)
    make, usual = _MAKERS[task]
    return [make(size or usual, draw) for _ in range(count)]


def recall_rows(
    task: str, tokenizer: Tokenizer, filler: TokenStream, *, count: int, length: int, seed: int = 0
) -> RecallRows:
    """Return texts of one task as token ids, what is asked numbered in each.

    A text without room for a gap, which ``filler`` fills from drawn places on, has none, and may be
    longer than ``length``.
    """
    draw = generator(seed, "gaps", task)
    ids, answers = [], []
    for text in recall_texts(task, count, seed=seed):
        before = [*tokenizer.begin, *tokenizer.encode(text.kept)]
        pieces = [(piece.asked, tokenizer.encode(piece.text)) for piece in text.asked]
        room = max(0, length - len(before) - sum(len(own) for _, own in pieces))
        start = int(torch.randint(max(1, len(filler) - room), (1,), generator=draw))
        gap = filler.ids[start : start + room].tolist()
        asked, marks = 0, [0] * (len(before) + len(gap))
        for is_asked, own in pieces:
            asked += is_asked
            marks += [asked * is_asked] * len(own)
        ids.append([*before, *gap, *(token for _, own in pieces for token in own)])
        answers.append(marks)
    rows, marked = (
        nn.utils.rnn.pad_sequence([torch.tensor(row) for row in lists], batch_first=True)
        for lists in (ids, answers)
    )
    return RecallRows(
        ids=rows,
        lengths=torch.tensor([len(row) for row in ids]),
        scored_from=(marked > 0).int().argmax(1),
        answers=marked,
        text_bytes=None,
        vocabulary=tokenizer.vocabulary,
        name=f"recall, {task}",
        source="made texts, their gaps filled from the data",
        details={"length": length, "seed": seed},
    )
