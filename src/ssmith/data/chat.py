"""Conversations: the forms they are written in, and what of them the model is to learn."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import takewhile
from typing import Any

from ssmith.core.errors import DataError
from ssmith.core.tokenizer import Tokenizer, begun

ASSISTANT = "assistant"
_ROLES = {
    **dict.fromkeys(("gpt", "chatgpt", "bing", "bot", "model"), ASSISTANT),
    "human": "user",
    "function_response": "tool",
}
Turn = dict[str, Any]
Span = tuple[int, int]

_ALPACA = (
    "Below is an instruction that describes a task{input}. Write a response that appropriately "
    "completes the request.\n\n### Instruction:\n{instruction}\n\n{more}### Response:\n"
)


def turns_of(row: Mapping[str, Any], where: str) -> list[Turn]:
    """Return a record as turns: ``messages``, ShareGPT's, TRL's prompt and completion, Alpaca's."""
    if "instruction" in row:
        asked = _alpaca_input(row, where)
        question = _text(row["instruction"], f"{where}: instruction")
        content = f"{question}\n\n{asked}" if asked else question
        answer = _text(row["output"], f"{where}: output")
        return [{"role": "user", "content": content}, {"role": ASSISTANT, "content": answer}]
    if "messages" in row:
        listed = row["messages"]
    elif "conversations" in row:
        listed = row["conversations"]
    else:
        answer = row["completion"]
        listed = [
            *row["prompt"],
            *([{"role": ASSISTANT, "content": answer}] if isinstance(answer, str) else answer),
        ]
    if not isinstance(listed, list) or not listed:
        raise DataError(f"{where} has no turn: {listed!r}"[:200], allowed="a list of turns")
    system = row.get("system")
    first = [{"role": "system", "content": system}] if isinstance(system, str) and system else []
    return first + [_turn(turn, f"{where}, turn {k}") for k, turn in enumerate(listed, start=1)]


def alpaca_prompt(row: Mapping[str, Any], where: str) -> str:
    """Return the prompt that Alpaca's own code makes, for models without a chat template."""
    asked = _alpaca_input(row, where)
    return _ALPACA.format(
        input=", paired with an input that provides further context" if asked else "",
        instruction=_text(row["instruction"], f"{where}: instruction"),
        more=f"### Input:\n{asked}\n\n" if asked else "",
    )


def _alpaca_input(row: Mapping[str, Any], where: str) -> str:
    asked = row.get("input") or ""
    if not isinstance(asked, str):
        raise DataError(f"{where}: input is {asked!r}", allowed="a text")
    return asked


def _turn(turn: Any, where: str) -> Turn:
    if not isinstance(turn, dict):
        raise DataError(f"{where} is {turn!r}"[:200], allowed="a role and a content")
    role = turn.get("role", turn.get("from"))
    content = turn.get("content", turn.get("value"))
    if not isinstance(role, str) or not role:
        raise DataError(
            f"{where} has {', '.join(map(str, turn)) or 'nothing'}",
            allowed="role and content, or from and value",
        )
    if isinstance(content, list):
        content = "".join(_part(part, where) for part in content)
    if not isinstance(content, str):
        raise DataError(f"{where}: content is {content!r}"[:200], allowed="a text")
    kept = {key: value for key, value in turn.items() if key not in ("from", "value", "weight")}
    return {**kept, "role": _ROLES.get(role, role), "content": content}


def _part(part: Any, where: str) -> str:
    text = part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None
    if not isinstance(text, str):
        raise DataError(
            f"{where} holds {part!r}"[:200], allowed="texts: no images, no sound, no calls"
        )
    return text


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str) or not value:
        raise DataError(f"{where} is {value!r}", allowed="a text that is not empty")
    return value


def learned_of(
    turns: Sequence[Turn], tokenizer: Tokenizer, where: str
) -> tuple[list[int], list[Span]]:
    """Return the token ids of a conversation, and the stretches that the assistant says.

    The first and the one after the last of each of its turns. Raises `DataError`, for the record
    ``where``, if it says nothing, or the template is no continuation of itself.
    """
    with named(where):
        whole = tokenizer.render(turns)
        said = [
            _said(turns, place, whole, tokenizer)
            for place, turn in enumerate(turns)
            if turn["role"] == ASSISTANT
        ]
        if not said:
            raise DataError("the assistant says nothing", allowed="at least one turn of it")
        plain, ends = tokenizer.placed(whole)
    if ends is None:
        raise DataError(
            f"{where}: the model's tokenizer does not say where its tokens stand",
            allowed="fast tokenizers for conversations",
            next_step="add tokenizer.json to the model's directory, or give prompt and completion",
        )
    ids = begun(tokenizer, plain)
    shift = len(ids) - len(plain)
    spans = [(shift + bisect_right(ends, a), shift + bisect_right(ends, b)) for a, b in said]
    return ids, [span for span in spans if span[0] < span[1]]


def _said(turns: Sequence[Turn], place: int, whole: str, tokenizer: Tokenizer) -> Span:
    """Return the characters of one turn of the assistant, with what ends it."""
    before = tokenizer.render(turns[:place], asked=True) if place else ""
    upto = tokenizer.render(turns[: place + 1])
    start = shared(before, upto)
    stop = shared(upto, whole)
    known = len(tokenizer.render(turns[:place])) if place else 0
    if start < known or stop <= start:
        raise DataError(
            f"the model's chat template changes turns that stand before turn {place + 1}, so what "
            "the assistant said cannot be told from the rest",
            allowed="templates that only add",
            next_step="give prompt and completion as texts",
        )
    return start, stop


def shared(one: Sequence[Any], other: Sequence[Any]) -> int:
    """Return how many items two sequences begin with in common."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


@contextmanager
def named(where: str) -> Iterator[None]:
    """Put the name of a record before what is said of its text."""
    try:
        yield
    except DataError as error:
        raise DataError(
            f"{where}: {error.what}", allowed=error.allowed, next_step=error.next_step
        ) from error
