"""New data a part at a time: recordings flow past, held as far as a row needs them.

A recording is held whole where its rows are whole recordings, where it is resampled, or where its
steps are not in order of time; a source is where covariates are known ahead, rates are aligned, or
its kind of file is read at once (``.npz``, ``.ts``, ``.arff``, ``.mat``, ``.json``).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ssmith.core.errors import DataError
from ssmith.core.findings import Finding
from ssmith.core.preparation import Preparation
from ssmith.core.sequences import Sequences
from ssmith.data.files import require_there
from ssmith.recordings.audio import SOUND, read_sound
from ssmith.recordings.cut import AHEAD, Spans, reach_of, spans
from ssmith.recordings.fill import filled, marked
from ssmith.recordings.folder import Item, entries_of, holds, says
from ssmith.recordings.images import IMAGES, are_grey, read_images
from ssmith.recordings.intervals import with_intervals
from ssmith.recordings.new import NewRows, by_name, new_rows, rows_in
from ssmith.recordings.ordered import in_order, survey
from ssmith.recordings.read import as_new, is_whole, no_reader
from ssmith.recordings.recording import Recordings, finding
from ssmith.recordings.strange import KINDS, unnamed
from ssmith.recordings.table import of_table
from ssmith.recordings.table_files import is_table, table_parts
from ssmith.recordings.tables import are_alike, files_in, parts_of_tables
from ssmith.recordings.tally import Tally, beyond, beyond_found, gaps_found

_FILES, _CUT = 16, 256
"""Files that are read together, and rows that are cut together."""


@dataclass(kw_only=True)
class RowParts:
    """Rows of new data, some after the other (see `parts_of_rows`), of a total of steps or files.

    ``told`` is whether the source says what is to be predicted.
    """

    parts: Iterator[NewRows]
    told: bool
    total: int
    passed: int = 0
    findings: list[Finding] = field(default_factory=list)


def parts_of_rows(
    preparation: Preparation, source: str | Path, *, rows: int, scratch: Path
) -> RowParts:
    """Return the rows that `new_rows` makes, ``rows`` at a time, without holding the source.

    ``scratch`` is an empty directory, for a table whose recordings lie among each other. Raises as
    `new_rows`.
    """
    path = Path(source)
    require_there(path)
    config = preparation.config
    if config.known or is_whole(path):
        return _whole(preparation, path, rows)
    flow = _Flow(preparation)
    if holds(path, (*SOUND, *IMAGES)):
        return flow.of_files(path, rows)
    if is_table(path):
        return flow.of_tables(partial(table_parts, path), rows, scratch)
    if not files_in(path):
        raise no_reader(path)
    if are_alike(path):
        return flow.of_tables(partial(parts_of_tables, path, config), rows, scratch)
    return _whole(preparation, path, rows)


def _whole(preparation: Preparation, path: Path, rows: int) -> RowParts:
    whole = new_rows(preparation, path)
    made = RowParts(
        parts=iter(()), told=whole.told, total=len(whole.rows), findings=[*whole.findings]
    )

    def passed() -> Iterator[NewRows]:
        for part in _grouped(iter([whole]), rows):
            made.passed += len(part.rows)
            yield part

    made.parts = passed()
    return made


class _Flow:
    """Recordings that flow past, and what is counted of them."""

    def __init__(self, preparation: Preparation) -> None:
        self.preparation, self.config = preparation, preparation.config
        self.gaps, self.far = Tally(), Tally()
        self.said: dict[str, Finding] = {}

    def of_files(self, path: Path, rows: int) -> RowParts:
        sound = holds(path, SOUND)
        entries = entries_of(path, SOUND if sound else IMAGES)
        grey = not sound and are_grey(entries)

        def read(part: Sequence[Item]) -> Recordings:
            if sound:
                return read_sound(path, self.config, part)[0]
            return read_images(path, self.config, part, grey=grey)

        starts = range(0, len(entries), _FILES)
        found = (read(entries[start : start + _FILES]) for start in starts)
        return self._made(found, path, rows, told=says(entries), total=len(entries))

    def of_tables(self, parts: Any, rows: int, scratch: Path) -> RowParts:
        known = survey(parts, self.config)
        named = as_new(known.columns, self.config, known.numeric.__contains__)
        tables = in_order(parts, known, self.config, scratch)
        found = (of_table(part, named) for part in tables if len(part))
        for kind, text in unnamed(known.columns.names, self.config, known.columns.path.name):
            self.said[kind] = finding(kind, text)
        label = self.config.labels
        told = bool(label) and all(name in known.columns.names for name in label)
        total = sum(known.counts)
        return self._made(found, known.columns.path, rows, told=told, total=total)

    def _made(
        self, found: Iterator[Recordings], path: Path, rows: int, *, told: bool, total: int
    ) -> RowParts:
        made = RowParts(parts=iter(()), told=told or self.config.task in AHEAD, total=total)
        by_step = not holds(path, (*SOUND, *IMAGES))

        def counted() -> Iterator[Recordings]:
            for part in found:
                made.passed += sum(part.lengths) if by_step else len(part.names)
                yield part

        def passed() -> Iterator[NewRows]:
            for flow in _recordings(counted()):
                yield from self._rows(flow)
            made.findings += [
                *self.said.values(), *gaps_found(path.name, self.gaps),
                *beyond_found(self.preparation, self.far),
            ]  # fmt: skip

        made.parts = _grouped(passed(), rows)
        return made

    def _rows(self, parts: Iterator[tuple[Recordings, bool]]) -> Iterator[NewRows]:
        """Yield the rows of one recording."""
        config = self.config
        whole = config.step is not None or config.window is None
        waiting: list[Recordings] = []
        known: Any = False
        held: Recordings | None = None
        before: Recordings | None = None
        done = 0
        for part, last in parts:
            named = by_name(part, self.preparation)
            for item in named.findings:
                # What is found in every part, in words that may differ, is told once.
                self.said.setdefault(item.kind if item.kind in KINDS else item.message, item)
            waiting.append(replace(named, findings=()))
            known = known | np.isfinite(marked(named, config).values[0]).any(0)
            if not last and (whole or not bool(np.all(known))):
                # A gap at the beginning takes the first value after it.
                continue
            new, before = self._filled(_joined(waiting), before)
            waiting = []
            held = new if held is None else _joined([held, new])
            chosen, keep = self._spans(held, done, last=last)
            while few := list(itertools.islice(chosen, _CUT)):
                done += len(few)
                yield rows_in(held, _placed(few, held.offset), self.preparation)
            held = _after(held, max(0, keep(done) - held.offset))

    def _filled(self, new: Recordings, before: Recordings | None) -> tuple[Recordings, Recordings]:
        """Return new steps without gaps, and the last of them, which later ones are held from."""
        joined = new if before is None else _joined([before, new])
        found = filled(joined, self.config, self.gaps)
        last = _after(found, len(found.values[0]) - 1)
        found = with_intervals(found, self.config)
        found = found if before is None else _after(found, 1)
        self.far.add(found, beyond(found, self.preparation))
        return found, last

    def _spans(self, held: Recordings, done: int, *, last: bool) -> tuple[Iterator[Any], Any]:
        """Return the rows that can be cut now, and which step the next one may begin at."""
        config, total = self.config, held.offset + len(held.values[0])
        ahead = 0 if last else reach_of(config)
        window, stride = config.window or 0, config.stride or max(1, (config.window or 2) // 2)
        found = spans(total, ahead, config, to_end=last, skip=done)
        if not last and total - ahead < window:
            found = iter(())

        def keep(done: int) -> int:
            next_one = done * stride + (1 - window if config.task == "per-step" else 0)
            return max(0, min(next_one, total - window))

        return found, keep


def _recordings(found: Iterator[Recordings]) -> Iterator[Iterator[tuple[Recordings, bool]]]:
    """Yield for each recording its parts, and whether each is the last one."""
    singles = _singles(found)
    ahead = next(singles, None)

    def parts() -> Iterator[tuple[Recordings, bool]]:
        nonlocal ahead
        goes_on = True
        while goes_on and ahead is not None:
            part, ahead = ahead[1], next(singles, None)
            # Only the first recording of a part may go on from the part before.
            goes_on = ahead is not None and ahead[0] and ahead[1].names == part.names
            yield part, not goes_on

    while ahead is not None:
        yield parts()


def _singles(found: Iterator[Recordings]) -> Iterator[tuple[bool, Recordings]]:
    for part in found:
        for place in range(len(part.names)):
            yield place == 0, _single(part, place)


def _single(found: Recordings, place: int) -> Recordings:
    def one(items: tuple[Any, ...] | None) -> tuple[Any, ...] | None:
        return None if items is None else (items[place],)

    return replace(
        found, names=(found.names[place],), values=(found.values[place],), times=one(found.times),
        rows=one(found.rows), labels=one(found.labels), groups=one(found.groups),
        splits=one(found.splits),
    )  # fmt: skip


def _joined(parts: Sequence[Recordings]) -> Recordings:
    """Return the parts of one recording as one."""
    first = parts[0]
    if len(parts) == 1:
        return first
    for part in parts:
        if part.groups != first.groups:
            raise DataError(
                f"{first.path.name}: recording {first.names[0]!r} is of the groups "
                f"{(first.groups or ('',))[0]!r} and {(part.groups or ('',))[0]!r}",
                allowed="one group for a recording", next_step="correct the rows",
            )  # fmt: skip

    def all_of(items: Sequence[tuple[Any, ...] | None]) -> tuple[Any, ...] | None:
        return None if items[0] is None else (np.concatenate([item[0] for item in items if item]),)

    labels = [None if part.labels is None else (_by_step(part),) for part in parts]
    return replace(
        first,
        values=all_of([part.values for part in parts]) or (),
        times=all_of([part.times for part in parts]),
        rows=all_of([part.rows for part in parts]),
        labels=all_of(labels),
    )


def _by_step(part: Recordings) -> Any:
    assert part.labels is not None
    labels = part.labels[0]
    return np.repeat(labels, len(part.values[0]), axis=0) if len(labels) == 1 else labels


def _after(part: Recordings, steps: int) -> Recordings:
    """Return a recording without its first steps."""

    def rest(items: tuple[Any, ...] | None) -> tuple[Any, ...] | None:
        return None if items is None else (items[0][steps:],)

    if not steps:
        return part
    labels = None if part.labels is None else (_by_step(part)[steps:],)
    return replace(
        part, values=rest(part.values) or (), times=rest(part.times), rows=rest(part.rows),
        labels=labels, offset=part.offset + steps,
    )  # fmt: skip


def _placed(few: Sequence[tuple[int, int]], offset: int) -> Spans:
    start, stop = np.array(few, dtype=np.int64).T - offset
    return Spans(recording=np.zeros(len(few), dtype=np.int64), start=start, stop=stop, reach=stop)


def _grouped(parts: Iterator[NewRows], size: int) -> Iterator[NewRows]:
    """Yield the rows so many at a time."""
    waiting: list[NewRows] = []
    for part in parts:
        waiting.append(part)
        if sum(len(item.rows) for item in waiting) < size:
            continue
        joined = _together(waiting)
        full = len(joined.rows) // size * size
        for start in range(0, full, size):
            yield _taken(joined, start, start + size)
        waiting = [_taken(joined, full, len(joined.rows))] if full < len(joined.rows) else []
    if waiting:
        yield _together(waiting)


def _taken(part: NewRows, start: int, stop: int) -> NewRows:
    index = torch.arange(start, stop)
    return replace(part, rows=part.rows.take(index), labelled=part.labelled[index])


def _together(parts: Sequence[NewRows]) -> NewRows:
    if len(parts) == 1:
        return parts[0]
    rows = [part.rows for part in parts]
    longest = max(item.x.shape[1] for item in rows)
    x = [torch.nn.functional.pad(item.x, (0, 0, 0, longest - item.x.shape[1])) for item in rows]
    names = rows[0].columns
    return NewRows(
        rows=Sequences(
            x=torch.cat(x), lengths=torch.cat([item.lengths for item in rows]),
            y=torch.cat([item.y for item in rows]),
            columns={
                name: tuple(itertools.chain.from_iterable(item.columns[name] for item in rows))
                for name in names
            },
        ),
        labelled=torch.cat([part.labelled for part in parts]),
    )  # fmt: skip
