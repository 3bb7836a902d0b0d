"""Lines in, answers out: a table or lines of JSON, one step a line, as they come."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ssmith.core.errors import DataError, SsmithError
from ssmith.serving.columns import answers_in
from ssmith.serving.decision import Decision
from ssmith.serving.stepping import ONE, ModelStream, StepAnswers
from ssmith.serving.writing import plain_row

_SEPARATORS = (",", ";", "\t", "|")
_GAPS = ("", "na", "n/a", "nan", "null", "none", "?", "-")
_NO_CHANNELS = ("sequence", "time", "label", "split", "group", "id")
_X = "x"


@dataclass(kw_only=True)
class Served:
    """Lines that were answered so far.

    Args:
        lines: read, blank ones and the header not counted.
        answered: with a step.
        waiting: without one: a value is missing that never came, or the step was skipped.
        refused: with an error.
    """

    lines: int = 0
    answered: int = 0
    waiting: int = 0
    refused: int = 0


@dataclass(kw_only=True)
class LineServer:
    """Answers lines one by one.

    Args:
        stream: that steps.
        decision: what is said of its outputs.
        served: counts.
    """

    stream: ModelStream
    decision: Decision
    served: Served = field(default_factory=Served)
    _kind: str = ""
    _header: list[str] = field(default_factory=list)
    _separator: str = ""

    def answers(self, lines: Iterable[str]) -> Iterator[dict[str, Any]]:
        """Yield an answer to every line with a step in it, JSON-ready; a bad line has an error.

        A header that lacks a channel ends it all: `DataError`.
        """
        for number, line in enumerate(lines, start=1):
            text = line.strip().removeprefix("\ufeff")
            if not text or self._is_header(text):
                continue
            self.served.lines += 1
            try:
                yield {"line": number, **self._answer(self._fields(text))}
            except SsmithError as error:
                self.served.refused += 1
                said = {"message": error.what, "allowed": error.allowed}
                yield {"line": number, "error": said}

    def _is_header(self, text: str) -> bool:
        """Take the first line of a table as its header."""
        if self._kind:
            return False
        self._kind = "lines" if text.startswith("{") else "table"
        if self._kind == "lines":
            return False
        self._separator = max(_SEPARATORS, key=lambda item: (text.count(item), item == ","))
        names = [name.strip() for name in next(csv.reader([text], delimiter=self._separator))]
        if all(_number(name) is not None for name in names):
            raise DataError(
                f"the first line is {text!r:.80}",
                allowed="the names of the columns, or lines of JSON",
                next_step="write a header before the first step",
            )
        self._header = names
        self._places(names, "the header")
        return True

    def _fields(self, text: str) -> dict[str, Any]:
        """Return what a line says, by name."""
        if self._kind == "lines" or text.startswith("{"):
            try:
                found = json.loads(text)
            except (ValueError, RecursionError) as error:
                raise DataError(f"{text!r:.80} is no JSON: {error}") from error
            if not isinstance(found, dict):
                raise DataError(f"{text!r:.80}", allowed="an object: names and values")
            return found
        cells = next(csv.reader([text], delimiter=self._separator), [])
        if len(cells) != len(self._header):
            raise DataError(f"{len(cells)} cells", allowed=f"{len(self._header)}, as the header")
        return dict(zip(self._header, cells, strict=True))

    def _answer(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        prepared = self.stream.preparation
        config = None if prepared is None else prepared.config
        sequence = (config.sequence if config is not None else None) or "sequence"
        time = (config.time if config is not None else None) or "time"
        source = str(fields[sequence]) if sequence in fields else ONE
        values = self._values(fields)
        said = self.stream.step([values], [source])
        found = {sequence: source} if sequence in fields else {}
        found |= {time: fields[time]} if time in fields else {}
        return found | self._said(said, values)

    def _values(self, fields: Mapping[str, Any]) -> Any:
        if _X in fields and self.stream.preparation is None:
            given = fields[_X]
        else:
            names = list(fields)
            given = [fields[names[place]] for place in self._places(names, "the line")]
        if self.stream.channels is None:
            return int(_cell(given[0] if isinstance(given, list) else given, "token"))
        if not isinstance(given, list):
            given = [given]
        cells = [_cell(value, f"channel {place}") for place, value in enumerate(given)]
        gaps = () if self.stream.preparation is None else self.stream.preparation.config.missing
        return [float("nan") if cell in gaps else cell for cell in cells]

    def _places(self, names: list[str], where: str) -> list[int]:
        """Return where the channels stand among names, by name if the model knows theirs."""
        if self.stream.preparation is not None:
            return self.stream.preparation.places(names, where)
        left = [place for place, name in enumerate(names) if name not in _NO_CHANNELS]
        wanted = self.stream.channels or 1
        if len(left) != wanted:
            raise DataError(
                f"{where} has {', '.join(names)}",
                allowed=f"{wanted} channels beside {', '.join(_NO_CHANNELS)}; the model knows no "
                "names for them, so their order counts",
            )
        return left

    def _said(self, said: StepAnswers, values: Any) -> dict[str, Any]:
        found: dict[str, Any] = {"step": int(said.steps[0])}
        if not bool(said.taken[0]):
            self.served.waiting += 1
            return found | {"waiting": self._named(~np.isfinite(np.array(values)))}
        self.served.answered += 1
        columns = answers_in(self.decision, said.outputs)
        found |= plain_row({name: column[0] for name, column in columns.items()})
        if bool(said.held.any()):
            found["held"] = self._named(said.held[0].numpy())
        prepared = self.stream.preparation
        if prepared is not None:
            pairs = zip(prepared.channels, values, strict=True)
            beyond = [bool(one.is_beyond(np.array([value]))[0]) for one, value in pairs]
            if any(beyond):
                found["out of range"] = self._named(np.array(beyond))
        return found

    def _named(self, which: Any) -> list[str]:
        prepared = self.stream.preparation
        names = [str(place) for place in range(len(which))] if prepared is None else prepared.names
        return [name for name, on in zip(names, which, strict=True) if on]


def _number(text: str) -> float | None:
    try:
        return float(text.replace(",", "."))
    except ValueError:
        return None


def _cell(value: Any, where: str) -> float:
    """Return a cell as a number, NaN for a gap."""
    if value is None:
        return float("nan")
    if isinstance(value, str):
        text = value.strip()
        if text.lower() in _GAPS:
            return float("nan")
        found = _number(text)
        if found is not None:
            return found
    elif isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    raise DataError(f"{where} is {value!r:.50}", allowed="a number, or nothing for a gap")
