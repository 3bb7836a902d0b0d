"""Records of tuning data: the forms they may have, and what each of them says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssmith.core.errors import DataError, InputError
from ssmith.core.files import beside
from ssmith.data.chat import ASSISTANT, Turn, alpaca_prompt, turns_of
from ssmith.data.records import SUFFIXES, Row, holds_records, read_records

_MORE = ("references", "split")
_FORMS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "prompt": (("prompt", "completion"), _MORE),
    "messages": (("messages",), _MORE),
    "conversations": (("conversations",), ("system", *_MORE)),
    "instruction": (("instruction", "output"), ("input", *_MORE)),
    "label": (("text", "label"), ("split",)),
    "text": (("text",), ("split", "label")),
}
ALLOWED = (
    "prompt and completion (and references), messages, conversations, instruction and output, "
    "text and label, or text; and, if wanted, split"
)


@dataclass(frozen=True, kw_only=True)
class Record:
    """One line, checked.

    Args:
        where: file and line, for errors.
        prompt: what is given; empty for plain text.
        text: what is learned, or what is labelled.
        label: class or number; None for language.
        references: answers that generation is compared with.
        split: name of its split; None if the file names none.
        turns: of a conversation; empty for texts.
    """

    where: str
    prompt: str = ""
    text: str = ""
    label: str | int | float | None = None
    references: tuple[str, ...] = ()
    split: str | None = None
    turns: tuple[Turn, ...] = ()

    @property
    def key(self) -> str:
        """What records have in common that belong into one split."""
        if self.turns:
            return repr([(turn["role"], turn["content"]) for turn in self.turns[:-1]])
        return self.prompt or self.text


def form_of(row: Row) -> str:
    """Return the form of a record by its keys; nothing if it has none."""
    keys = {key for key, value in row.items() if value is not None}
    return next((form for form, (needed, _) in _FORMS.items() if set(needed) <= keys), "")


def read_examples(path: Path, *, templated: bool) -> tuple[str, list[Record], dict[str, int]]:
    """Return the form of tuning data, its records, and how many held each key that was passed over.

    JSON lines or an array, Parquet, Arrow, or the directory of a data set; all of one form:
    ``"prompt"``, ``"chat"``, ``"label"`` or ``"text"``. Without a chat template (``templated``),
    Alpaca's records get the prompt of Alpaca's own code. Raises `InputError` if there is no such
    file, `DataError` with the line that cannot be read.
    """
    if not path.exists():
        raise InputError(f"there is no file {path}", next_step=beside(path) or "check the path")
    if not holds_records(path):
        raise InputError(
            f"cannot read {str(path)!r} as tuning data",
            allowed=f"a file that ends in {', '.join(SUFFIXES)}, or the directory of a data set",
        )
    records = read_records(path)
    forms = [form_of(row) for row in records.rows]
    for place, form in enumerate(forms):
        if not form:
            _refuse(records.rows[place], records.where(place))
        if form != forms[0]:
            raise DataError(
                f"{records.where(place)} has the keys of the form {form!r}, those before it of "
                f"{forms[0]!r}",
                allowed="one form in a file",
            )
    needed, more = _FORMS[forms[0]]
    ignored = records.ignored({*needed, *more}, more)
    splits = records.optional("split")
    maker: Callable[[Row, str, str | None], Record] = _MAKERS[forms[0]]
    if forms[0] == "instruction" and not templated:
        maker = _from_alpaca
    made = [
        maker(row, records.where(place), splits[place] if splits else None)
        for place, row in enumerate(records.rows)
    ]
    kind = "chat" if made[0].turns else "prompt" if made[0].prompt else forms[0]
    return kind, made, ignored


def _refuse(row: Row, where: str) -> None:
    given = ", ".join(sorted(row)) or "nothing"
    if {"chosen", "rejected"} & set(row):
        raise DataError(
            f"{where} has {given}: a choice between two answers",
            allowed=ALLOWED,
            next_step="write the chosen answer as the completion of its prompt",
        )
    raise DataError(f"{where} has {given}", allowed=ALLOWED)


def _from_prompt(row: Row, where: str, split: str | None) -> Record:
    if isinstance(row["prompt"], list):
        return _from_turns(row, where, split)
    prompt, answer = (_text(row[name], name, where) for name in ("prompt", "completion"))
    return Record(
        where=where, prompt=prompt, text=answer, split=split, references=_known(row, answer, where)
    )


def _from_turns(row: Row, where: str, split: str | None) -> Record:
    turns = turns_of(row, where)
    said = [turn["content"] for turn in turns if turn["role"] == ASSISTANT]
    if not said:
        raise DataError(f"{where}: the assistant says nothing", allowed="at least one turn of it")
    return Record(
        where=where, turns=tuple(turns), split=split, references=_known(row, said[-1], where)
    )


def _from_alpaca(row: Row, where: str, split: str | None) -> Record:
    answer = _text(row["output"], "output", where)
    return Record(
        where=where, prompt=alpaca_prompt(row, where), text=answer, split=split,
        references=_known(row, answer, where),
    )  # fmt: skip


def _from_text(row: Row, where: str, split: str | None) -> Record:
    label = row.get("label")
    if label is not None and (isinstance(label, bool) or not isinstance(label, str | int | float)):
        raise DataError(f"{where}: label is {label!r}", allowed="a text or a number")
    return Record(where=where, text=_text(row["text"], "text", where), label=label, split=split)


_MAKERS: dict[str, Callable[[Row, str, str | None], Record]] = {
    "prompt": _from_prompt,
    "messages": _from_turns,
    "conversations": _from_turns,
    "instruction": _from_turns,
    "label": _from_text,
    "text": _from_text,
}


def _text(value: Any, name: str, where: str) -> str:
    if not isinstance(value, str) or not value:
        raise DataError(f"{where}: {name} is {value!r}"[:300], allowed="a text that is not empty")
    return value


def _known(row: Row, answer: str, where: str) -> tuple[str, ...]:
    given = row.get("references") or []
    if not isinstance(given, list) or not all(isinstance(item, str) and item for item in given):
        raise DataError(f"{where}: references is {given!r}"[:300], allowed="a list of texts")
    return tuple(dict.fromkeys((answer, *given)))
