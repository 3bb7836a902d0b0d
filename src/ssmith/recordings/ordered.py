"""A long table in the order of recordings and time, without holding it: by disk where need be."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssmith.core.preparation import PrepareConfig
from ssmith.data.arrow import as_stored
from ssmith.recordings.columns import FORMS, Columns

Parts = Callable[[], Iterator[Columns]]
Named = tuple[NDArray[np.int64], list[str]]
_HELD = 1 << 19
"""Rows of short recordings that are put in order together."""
_ROW = "row in the file"


@dataclass(kw_only=True)
class TableSurvey:
    """What is known of a table after it was read once, recordings in order of first appearance.

    ``numeric`` are columns of numbers that have no role; ``adjacent`` is whether the rows of each
    recording follow each other, ``late`` those whose rows are not in order of time.
    """

    columns: Columns
    form: str | None = None
    numeric: set[str] = field(default_factory=set)
    rank: dict[str, int] = field(default_factory=dict)
    counts: list[int] = field(default_factory=list)
    adjacent: bool = True
    late: set[int] = field(default_factory=set)


def survey(parts: Parts, config: PrepareConfig) -> TableSurvey:
    """Read a table once; memory is taken for the names of its recordings alone."""
    found, first = _surveyed(parts, config, list(FORMS))
    if found.form is not None and found.form != first:
        # What the first rows looked like is not what all of them are.
        return _surveyed(parts, config, [found.form])[0]
    return found


def in_order(
    parts: Parts, known: TableSurvey, config: PrepareConfig, scratch: Path
) -> Iterator[Columns]:
    """Yield the rows of a table, those of a recording one after the other in order of time.

    A part holds whole recordings, or some steps of one that goes on in the next. A recording whose
    rows are not in order of time is held whole; so are short ones among each other.
    """
    forms = {} if config.time is None or known.form is None else {config.time: known.form}
    if known.adjacent and not known.late:
        for part in parts():
            yield replace(part, forms=forms)
        return
    scratch.mkdir(parents=True, exist_ok=True)
    bucket = _buckets(known)
    for part in parts():
        _append(part, bucket[_ranks(_named(part, config), known)], scratch)
    for number in range(int(bucket[-1]) + 1):
        path = scratch / str(number)
        flows = np.flatnonzero(bucket == number).tolist()
        tables = _tables(path)
        if len(flows) > 1 or flows[0] in known.late:
            held = import_module("pyarrow").concat_tables(tables, promote_options="permissive")
            tables = iter([held])
        for table in tables:
            rows = as_stored(table[_ROW].chunks, np.int64)
            about = replace(known.columns, table=table.drop_columns([_ROW]), rows=rows, forms=forms)
            yield about
        path.unlink()


def _surveyed(
    parts: Parts, config: PrepareConfig, forms: list[str]
) -> tuple[TableSurvey, str | None]:
    """Return what is known of a table, and the form that the times of its first rows have."""
    found: TableSurvey | None = None
    begun: str | None = None
    free: set[str] = set()
    open_, last = -1, dict[int, float]()
    for part in parts():
        if found is None:
            found = TableSurvey(columns=replace(part, table=part.table.slice(0, 0)))
            free = {*part.names} - {*config.plain_columns(), *config.channels}
        if config.time is not None:
            forms = _form(part, config, forms)
            begun = begun or forms[0]
        free -= {name for name in free if not _may_be_numeric(part, name)}
        found.numeric |= {name for name in free - found.numeric if part.is_numeric(name)}
        named = _named(part, config)
        open_ = _count(found, named, open_)
        if config.time is not None:
            times = replace(part, forms={config.time: forms[0]}).times(config.time)
            _mark_late(found, _ranks(named, found), times, last)
    assert found is not None
    found.form = forms[0] if config.time is not None else None
    found.numeric &= free
    return found, begun


def _form(part: Columns, config: PrepareConfig, forms: list[str]) -> list[str]:
    """Return the forms that the times of a part may have, of those that earlier ones may."""
    name = config.time or ""
    part.require((name,), "time")
    fits = [form for form in forms if part.times_as(name, form) is not None]
    if not fits:
        # Either raises: where zones are mixed with none, or at the first cell that is no time.
        part.times(name)
        part.numbers(name)
    return fits


def _may_be_numeric(part: Columns, name: str) -> bool:
    return name not in part.names or part.is_numeric(name) or not (part.texts(name) != "").any()


def _count(found: TableSurvey, named: Named, open_: int) -> int:
    """Count the rows of each recording; returns the last one."""
    codes, words = named
    unique, first, counts = np.unique(codes, return_index=True, return_counts=True)
    runs = 1 + int((codes[1:] != codes[:-1]).sum())
    goes_on = found.rank.get(words[codes[0]]) == open_
    again = sum(words[code] in found.rank for code in unique)
    found.adjacent &= runs == len(unique) and again == int(goes_on and open_ >= 0)
    for place in np.argsort(first):
        rank = found.rank.setdefault(words[unique[place]], len(found.rank))
        found.counts += [0] * (rank == len(found.counts))
        found.counts[rank] += int(counts[place])
    return found.rank[words[codes[-1]]]


def _named(part: Columns, config: PrepareConfig) -> Named:
    """Return which recording each row is of, and what they are called."""
    if config.sequence is None:
        return np.zeros(len(part), dtype=np.int64), [""]
    part.require((config.sequence,), "sequence")
    return part.coded(config.sequence)


def _ranks(named: Named, known: TableSurvey) -> NDArray[np.int64]:
    codes, words = named
    # A word that no row has is in no survey either.
    return np.array([known.rank.get(word, -1) for word in words], dtype=np.int64)[codes]


def _mark_late(
    found: TableSurvey, ranks: NDArray[np.int64], times: NDArray[np.float64], last: dict[int, float]
) -> None:
    """Mark the recordings that have a step no later than the one before it in the file."""
    order = np.argsort(ranks, kind="stable")
    ranks, times = ranks[order], times[order]
    begins = np.flatnonzero(np.diff(ranks, prepend=-1))
    before = np.concatenate([[np.nan], times[:-1]])
    before[begins] = [last.get(int(rank), -np.inf) for rank in ranks[begins]]
    found.late |= set(ranks[~(times > before)].tolist())
    ends = np.append(begins[1:], len(ranks)) - 1
    last.update(zip(ranks[ends].tolist(), times[ends].tolist(), strict=True))


def _buckets(known: TableSurvey) -> NDArray[np.int64]:
    """Return which file each recording goes to: short ones together, a long one alone."""
    found, held, number = [], 0, 0
    for count in known.counts:
        if held and held + count > _HELD:
            held, number = 0, number + 1
        found.append(number)
        held += count
    return np.array(found, dtype=np.int64)


def _append(part: Columns, bucket: NDArray[np.int64], scratch: Path) -> None:
    lib, ipc = import_module("pyarrow"), import_module("pyarrow.ipc")
    rows = part.numbers_of(np.arange(len(part)))
    table = part.table.append_column(_ROW, lib.array(rows))
    for number in np.unique(bucket).tolist():
        chosen = table.take(np.flatnonzero(bucket == number))
        with (scratch / str(number)).open("ab") as file, ipc.new_stream(file, table.schema) as out:
            out.write_table(chosen)


def _tables(path: Path) -> Iterator[Any]:
    """Yield what was appended to a file."""
    ipc = import_module("pyarrow.ipc")
    size = path.stat().st_size
    with path.open("rb") as file:
        while file.tell() < size:
            yield ipc.open_stream(file).read_all()
