"""The line format of tuning data: one text, or one prompt and its answers, per line."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssmith.core.errors import DataError, InputError
from ssmith.core.files import beside
from ssmith.data.text import read_text

_FORMS = {
    "prompt": ({"prompt", "completion"}, {"references", "split"}),
    "label": ({"text", "label"}, {"split"}),
    "text": ({"text"}, {"split"}),
}
ALLOWED = "prompt and completion (and references), text and label, or text; and, if wanted, split"


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
    """

    where: str
    prompt: str
    text: str
    label: str | int | float | None
    references: tuple[str, ...]
    split: str | None


def read_examples(path: Path) -> tuple[str, list[Record]]:
    """Read a file of tuning data.

    Args:
        path: a ``.jsonl`` file, UTF-8, with one object per line.

    Returns:
        The form all its lines have (``"prompt"``, ``"label"`` or ``"text"``), and the lines.

    Raises:
        InputError: if there is no such file.
        DataError: with the line that cannot be read.
    """
    if path.suffix.lower() != ".jsonl":
        raise InputError(f"cannot read {str(path)!r} as tuning data", allowed="a .jsonl file")
    if not path.is_file():
        raise InputError(f"there is no file {path}", next_step=beside(path) or "check the path")
    form = ""
    records = []
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path.name} line {number}"
        found, record = _record(line, where)
        if form not in ("", found):
            raise DataError(
                f"{where} has {found!r} lines' keys, the lines before are of the form {form!r}",
                allowed="one form in a file",
            )
        form = found
        records.append(record)
    if not records:
        raise DataError(f"{path.name} has no line", allowed=ALLOWED)
    if len({record.split is None for record in records}) > 1:
        raise DataError(
            f"{path.name} names a split in some lines only", allowed="a split in all, or in none"
        )
    return form, records


def _record(line: str, where: str) -> tuple[str, Record]:
    try:
        content = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where} is not JSON: {error}", allowed="one object per line") from error
    keys = set(content) if isinstance(content, dict) else set()
    for form, (needed, more) in _FORMS.items():
        if needed <= keys <= needed | more:
            return form, _checked(content, form, where)
    given = ", ".join(sorted(keys)) if keys else type(content).__name__
    raise DataError(f"{where} has {given}", allowed=ALLOWED)


def _checked(content: dict[str, Any], form: str, where: str) -> Record:
    texts = {name: content[name] for name in ("prompt", "completion", "text") if name in content}
    for name, value in texts.items():
        if not isinstance(value, str) or not value:
            raise DataError(f"{where}: {name} is {value!r}", allowed="a text that is not empty")
    label = content.get("label")
    if form == "label" and (isinstance(label, bool) or not isinstance(label, str | int | float)):
        raise DataError(f"{where}: label is {label!r}", allowed="a text or a number")
    split = content.get("split")
    if split is not None and not isinstance(split, str):
        raise DataError(f"{where}: split is {split!r}", allowed="the name of a split")
    given = content.get("references", [])
    if not isinstance(given, list) or not all(isinstance(item, str) and item for item in given):
        raise DataError(f"{where}: references is {given!r}", allowed="a list of texts")
    answer = texts.get("completion", texts.get("text", ""))
    references = tuple(dict.fromkeys((answer, *given))) if form == "prompt" else ()
    return Record(
        where=where,
        prompt=texts.get("prompt", ""),
        text=answer,
        label=label,
        references=references,
        split=split,
    )
