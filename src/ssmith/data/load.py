"""One door to all data: a named set, or the user's own file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from ssmith.core.errors import DataError, InputError
from ssmith.core.files import beside
from ssmith.core.names import meant
from ssmith.core.sequences import SPLITS, SequenceData, Task
from ssmith.data.assemble import assemble
from ssmith.data.csv_file import CSV
from ssmith.data.embedded import PREFIX, TASKS, load_embedded
from ssmith.data.files import require_there, suffix_of
from ssmith.data.labels import check_task
from ssmith.data.load_text import NAMED
from ssmith.data.npz import read_npz
from ssmith.data.pool import Pool
from ssmith.data.raw import Raw, pool_of
from ssmith.data.records import JSON, first_keys, holds_records
from ssmith.data.records import SUFFIXES as RECORDS
from ssmith.data.series import read_series
from ssmith.data.splitting import draw_splits
from ssmith.data.table import is_long, read_long, read_long_arrow
from ssmith.data.text_files import TEXT, TOKENS
from ssmith.data.ts_file import TS, read_ts_series

_ALIKE = 0.6
_READERS = {".npz": read_npz, **dict.fromkeys(CSV, read_long), TS: read_ts_series}
ALLOWED = (*_READERS, *RECORDS)


def load_data(
    spec: str | Path,
    *,
    seed: int = 0,
    classes: Sequence[str] | None = None,
    task: Task | None = None,
    needs: Sequence[str] = SPLITS,
    columns: Sequence[str] = (),
) -> SequenceData:
    """Load a data set in its splits.

    A file without splits is split by a seeded draw, stratified by class. The values of a file
    are taken as they are; named sets are scaled.

    ``.npz``: ``x`` (sequences, steps, channels), or (sequences, steps) for one channel or, with
    ``vocabulary``, for integer tokens; ``y``; optional ``lengths``, ``split``, ``classes`` and
    ``task``. ``.csv``: one row per step with the columns ``sequence``, ``label``, optional
    ``time`` and ``split``, and channels. Records (JSON lines or an array, Parquet, the directory of
    a data set): one per sequence with ``x``, ``y`` and optional ``split``; columns as of a ``.csv``
    in Parquet. ``.ts``: the archive format of time series. All but ``.npz`` and Parquet may be
    packed (``.gz``).

    Args:
        spec: ``embedded:NAME``, or a path.
        seed: seed of the draw and of ``embedded:listops``, any integer ≥ 0. It belongs to the
            data: keep it while the seed of training varies.
        classes: classes in index order, e.g. those of a trained model; by default those of the
            data, sorted.
        task: what is predicted; by default classification for strings and integers,
            regression for real targets.
        needs: splits that must be there.
        columns: of the file, that are no channels; they are kept beside the sequences.

    Returns:
        The data set; its details say how it was split and scaled.

    Raises:
        InputError: if the name, path or an argument is not valid.
        DataError: if the data is; the message says what and where.
        MissingExtraError: if the package that holds a named set is not installed.
    """
    check_task(task)
    wrong = [name for name in needs if name not in SPLITS]
    if wrong:
        raise InputError(f"needs names split {wrong[0]!r}", allowed=", ".join(SPLITS))
    if str(spec).startswith(PREFIX):
        if columns:
            raise InputError(
                f"{spec} has no column {columns[0]!r}", allowed="columns of a file of your own"
            )
        data = load_embedded(str(spec).removeprefix(PREFIX), seed=seed)
        _require_same(data, classes=classes, task=task)
        return data
    pool = _read(Path(spec), classes, task, columns)
    return assemble(_with_splits(pool, seed=seed, needs=needs))


def _read(
    path: Path, classes: Sequence[str] | None, task: Task | None, columns: Sequence[str]
) -> Pool:
    return pool_of(reader_of(path)(path, columns), classes=classes, task=task)


def reader_of(path: Path) -> Callable[..., Raw]:
    """Return what reads a file; raises `InputError` if there is no such file, or nothing does."""
    reader = _reader(path)
    if reader is None:
        raise _no_reader(path)
    require_there(path)
    if path.is_dir() and not holds_records(path):
        raise InputError(f"{path} is a directory", allowed="a file, or the directory of a data set")
    return reader


def _reader(path: Path) -> Callable[..., Raw] | None:
    if not holds_records(path):
        return _READERS.get(suffix_of(path))
    if path.exists() and is_long(first_keys(path)) and suffix_of(path) not in JSON:
        return read_long_arrow
    return read_series


def _no_reader(path: Path) -> InputError:
    allowed = f"{PREFIX}NAME, or a path that ends in {', '.join(ALLOWED)}"
    if str(path) in NAMED or suffix_of(path) in (*TEXT, *TOKENS):
        return InputError(
            f"{str(path)!r} is text, and sequences are needed",
            allowed=allowed,
            next_step="write series into one of these, or give the text to a language model",
        )
    named = "" if path.exists() else meant(str(path), TASKS, prefix=PREFIX, cutoff=_ALIKE)
    return InputError(
        f"cannot load {str(path)!r}",
        allowed=allowed,
        next_step=named or beside(path) or "see `ssmith list` for the named ones",
    )


def _with_splits(pool: Pool, *, seed: int, needs: Sequence[str]) -> Pool:
    if pool.split_of is None:
        return draw_splits(pool, seed=seed)
    missing = [name for name in needs if name not in pool.split_of]
    if missing:
        raise DataError(
            f"{pool.source} has no sequence in split {', '.join(missing)}",
            allowed=f"all of {', '.join(needs)}",
            next_step="name these splits in the file, or leave splits out to have them drawn",
        )
    return replace(pool, details={**pool.details, "split": "as in the file"})


def _require_same(data: SequenceData, *, classes: Sequence[str] | None, task: Task | None) -> None:
    if classes is not None and tuple(classes) != data.classes:
        raise DataError(
            f"{data.name} has classes {', '.join(data.classes) or 'none'}",
            allowed=f"{', '.join(classes)}, as asked for",
        )
    if task is not None and task != data.task:
        raise DataError(f"{data.name} is for {data.task}", allowed=f"{task}, as asked for")
