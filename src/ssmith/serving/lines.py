"""Lines in, answers out: a table or lines of JSON, one step a line, as they come."""

from __future__ import annotations

import csv
import json
import queue
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ssmith.core.errors import DataError, SsmithError
from ssmith.recordings.columns import time_of
from ssmith.serving.columns import ANOMALY, alarms_of, answers_in
from ssmith.serving.decision import Decision
from ssmith.serving.stepping import ONE, ModelStream, StepAnswers
from ssmith.serving.writing import plain_row

_SEPARATORS = (",", ";", "\t", "|")
_GAPS = ("", "na", "n/a", "nan", "null", "none", "?", "-")
_NO_CHANNELS = ("sequence", "time", "label", "split", "group", "id")
_X = "x"
_AT_ONCE = 4096
"""Most lines that are answered together."""


@dataclass(kw_only=True)
class Served:
    """Lines that were answered so far, blank ones and the header not counted.

    Those wait where a value is missing that never came, or the step was skipped.
    """

    lines: int = 0
    answered: int = 0
    waiting: int = 0
    refused: int = 0


@dataclass(frozen=True, kw_only=True)
class _Step:
    """What one line says."""

    number: int
    source: str
    values: Any
    time: float
    named: Mapping[str, Any]


@dataclass(kw_only=True)
class LineServer:
    """Answers lines one by one by a stream's steps."""

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
        return self.answers_to([line] for line in lines)

    def answers_to(self, waiting: Iterable[Sequence[str]]) -> Iterator[dict[str, Any]]:
        """Yield the same of lines that come several at a time.

        Those of different sources take their step together.
        """
        number = 0
        for lines in waiting:
            together: list[_Step] = []
            for line in lines:
                number += 1
                text = line.strip().removeprefix("\ufeff")
                if not text or self._is_header(text):
                    continue
                self.served.lines += 1
                try:
                    step = self._step(number, self._fields(text))
                except SsmithError as error:
                    yield from self._taken(together)
                    together = []
                    yield self._refused(number, error)
                    continue
                if any(step.source == other.source for other in together):
                    yield from self._taken(together)
                    together = []
                together.append(step)
            yield from self._taken(together)

    def _taken(self, steps: Sequence[_Step]) -> Iterator[dict[str, Any]]:
        """Take the steps of different sources together; one by one if one of them is refused."""
        if not steps:
            return
        times = [step.time for step in steps] if self.stream.reads_intervals else None
        try:
            said = self.stream.step(
                [step.values for step in steps], [step.source for step in steps], times
            )
        except SsmithError as error:
            if len(steps) == 1:
                yield self._refused(steps[0].number, error)
                return
            for step in steps:
                yield from self._taken([step])
            return
        columns = answers_in(self.decision, said.outputs) if bool(said.taken.any()) else {}
        if said.scores is not None and columns:
            columns |= self._alarms(said, said.scores.numpy())
        for place, step in enumerate(steps):
            answer = {name: column[place] for name, column in columns.items()}
            yield {"line": step.number, **step.named, **self._said(said, place, step, answer)}

    def _alarms(self, said: StepAnswers, scores: Any) -> dict[str, Any]:
        """Return scores and alarms; none while a forecast had fewer steps than it was trained on.

        Their threshold is that of forecasts of whole windows.
        """
        found = alarms_of(self.decision, scores)
        prepared = self.stream.preparation
        if ANOMALY not in found or prepared is None:
            return found
        ahead, anew = max(prepared.config.horizon), self.stream.config.window
        least = prepared.config.window or 0
        least = least if anew is None else min(least, anew - ahead)
        few = (said.steps.numpy() - ahead) < least
        alarms = [None if early else on for early, on in zip(few, found[ANOMALY], strict=True)]
        return {**found, ANOMALY: alarms}

    def _refused(self, number: int, error: SsmithError) -> dict[str, Any]:
        self.served.refused += 1
        return {"line": number, "error": {"message": error.what, "allowed": error.allowed}}

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

    def _step(self, number: int, fields: Mapping[str, Any]) -> _Step:
        prepared = self.stream.preparation
        config = None if prepared is None else prepared.config
        sequence = (config.sequence if config is not None else None) or "sequence"
        time = (config.time if config is not None else None) or "time"
        named = {name: fields[name] for name in (sequence, time) if name in fields}
        if sequence in named:
            named[sequence] = str(named[sequence])
        when = float("nan")
        if self.stream.reads_intervals:
            when = time_of(str(named.get(time, "")))
        return _Step(
            number=number, source=named.get(sequence, ONE), values=self._values(fields), time=when,
            named=named,
        )  # fmt: skip

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

    def _said(
        self, said: StepAnswers, place: int, step: _Step, answer: Mapping[str, Any]
    ) -> dict[str, Any]:
        found: dict[str, Any] = {"step": int(said.steps[place])}
        if not bool(said.taken[place]):
            self.served.waiting += 1
            return found | {"waiting": self._named(~np.isfinite(np.array(step.values)))}
        self.served.answered += 1
        found |= plain_row(answer)
        if bool(said.held[place].any()):
            found["held"] = self._named(said.held[place].numpy())
        prepared = self.stream.preparation
        if prepared is not None:
            pairs = zip(prepared.channels, step.values, strict=False)
            beyond = [bool(one.is_beyond(np.array([value]))[0]) for one, value in pairs]
            if any(beyond):
                found["out of range"] = self._named(np.array(beyond))
        return found

    def _named(self, which: Any) -> list[str]:
        prepared = self.stream.preparation
        names = [str(place) for place in range(len(which))] if prepared is None else prepared.names
        return [name for name, on in zip(names, which, strict=False) if on]


def waiting(lines: Iterable[str]) -> Iterator[list[str]]:
    """Yield lines as they come, in one list those that have come while others were answered."""
    arrived: queue.Queue[str | BaseException | None] = queue.Queue(2 * _AT_ONCE)

    def read() -> None:
        try:
            for line in lines:
                arrived.put(line)
        except BaseException as error:
            # Raised again where the answers are asked for.
            arrived.put(error)
        arrived.put(None)

    threading.Thread(target=read, daemon=True).start()
    while True:
        together: list[str] = []
        item = arrived.get()
        while isinstance(item, str):
            together.append(item)
            if len(together) == _AT_ONCE or arrived.empty():
                break
            item = arrived.get_nowait()
        if together:
            yield together
        if isinstance(item, BaseException):
            raise item
        if item is None:
            return


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
