"""One door to recordings, whatever they are stored in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import starmap
from pathlib import Path

from ssmith.core.errors import DataError, InputError
from ssmith.core.files import beside
from ssmith.core.preparation import PrepareConfig
from ssmith.data.files import require_there, suffix_of
from ssmith.data.npz import read_npz
from ssmith.data.raw import Raw
from ssmith.data.records import first_keys, holds_records
from ssmith.data.series import read_series
from ssmith.data.ts_file import TS, read_ts_series
from ssmith.recordings.arff import ARFF, read_arff
from ssmith.recordings.audio import SOUND, read_sound
from ssmith.recordings.columns import Columns
from ssmith.recordings.cut import AHEAD
from ssmith.recordings.folder import holds
from ssmith.recordings.images import IMAGES, read_images
from ssmith.recordings.matlab import MAT, read_mat
from ssmith.recordings.recording import Recordings, finding
from ssmith.recordings.sequences import of_raw
from ssmith.recordings.strange import unnamed
from ssmith.recordings.table import mapped, of_table
from ssmith.recordings.table_files import TABLES, is_table, read_columns
from ssmith.recordings.tables import files_in, read_tables
from ssmith.recordings.timed_ts import read_timed_ts

NPZ = ".npz"
ALLOWED = (*TABLES, NPZ, TS, ARFF, MAT, *SOUND, *IMAGES)


def read(path: Path, config: PrepareConfig) -> tuple[Recordings, PrepareConfig]:
    """Read recordings to learn from, and the settings with what their source decides.

    Args:
        path: a table: ``.csv``, ``.tsv``, ``.txt``, ``.parquet``, ``.arrow``, ``.jsonl``, packed
            (``.gz``) or not, or the directory of a data set; one step a row. Or a folder of such
            tables: each a recording, or of other rates, aligned by time. Or a folder of sound,
            or images, with a folder for each label, or a table ``labels.csv``; or a file of whole
            sequences: ``.npz``, ``.ts``, ``.arff``, ``.mat``, records with ``x`` and ``y``.
        config: what its columns are.

    Returns:
        The recordings, and the settings that read the like of them.

    Raises:
        InputError: if there is no such source, or none of a kind that is read.
        DataError: if it is not what the settings say.
    """
    require_there(path)
    if is_whole(path):
        found = _whole(path, labelled=True)
        timed = config.time or (None if found.times is None else "time")
        return found, replace(config, label=found.targets, time=timed)
    columns = _columns(path, config)
    if columns is not None:
        config = mapped(config, columns.names)
        return of_table(columns, config, labelled=bool(config.labels)), config
    if holds(path, SOUND):
        found, config = read_sound(path, config)
        return found, _of_folder(config)
    if holds(path, IMAGES):
        return read_images(path, config), _of_folder(config)
    raise no_reader(path)


def read_new(path: Path, config: PrepareConfig) -> Recordings:
    """Read recordings of the kind that a model was trained on; labels may be missing."""
    require_there(path)
    if is_whole(path):
        return _whole(path, labelled=False)
    columns = _columns(path, config)
    if columns is not None:
        made = of_table(columns, as_new(columns, config, columns.is_numeric))
        said = starmap(finding, unnamed(columns.names, config, path.name))
        return replace(made, findings=(*made.findings, *said))
    if holds(path, SOUND):
        return read_sound(path, config)[0]
    if holds(path, IMAGES):
        return read_images(path, config)
    raise no_reader(path)


def as_new(
    columns: Columns, config: PrepareConfig, is_numeric: Callable[[str], bool]
) -> PrepareConfig:
    """Return the settings for a table of new data, whose channels are known by their names."""
    left = {*config.plain_columns()}
    left |= set() if config.task in AHEAD else {*config.label}
    names = [name for name in columns.names if name not in left]
    there = [name for name in names if name in config.channels or is_numeric(name)]
    if not there:
        raise DataError(
            f"{columns.path.name} has columns {', '.join(columns.names)}",
            allowed=f"{', '.join(config.channels)}, as the model reads",
        )
    return replace(config, channels=tuple(there))


def _columns(path: Path, config: PrepareConfig) -> Columns | None:
    """Return a table, or those of a folder without sound and images as one; None if it is none."""
    if is_table(path):
        return read_columns(path)
    if holds(path, (*SOUND, *IMAGES)) or not files_in(path):
        return None
    return read_tables(path, config)


def _whole(path: Path, *, labelled: bool) -> Recordings:
    """Read a file of whole sequences, with labels if it has them."""
    suffix = suffix_of(path)
    if suffix in (ARFF, MAT):
        return read_arff(path) if suffix == ARFF else read_mat(path)
    timed = read_timed_ts(path) if suffix == TS else None
    return timed or of_raw(_raw(path, suffix, labelled=labelled))


def _raw(path: Path, suffix: str, *, labelled: bool) -> Raw:
    reader = {TS: read_ts_series, NPZ: read_npz}.get(suffix, read_series)
    try:
        return reader(path)
    except DataError:
        if labelled:
            raise
        # Without y; what else is wrong is told again.
        return reader(path, labelled=False)


def is_whole(path: Path) -> bool:
    """Return whether a file holds one sequence in each of its records."""
    if path.is_file() and suffix_of(path) in (NPZ, TS, ARFF, MAT):
        return True
    return holds_records(path) and "x" in first_keys(path)


def _of_folder(config: PrepareConfig) -> PrepareConfig:
    """Return the settings of files in folders, whose names are classes."""
    return replace(config, task=config.task or "classification", label=("label",))


def no_reader(path: Path) -> InputError:
    """Return what to say of a path that is of no kind that is read."""
    return InputError(
        f"cannot read {str(path)!r} as recordings",
        allowed=f"a path that ends in {', '.join(ALLOWED)}",
        next_step=beside(path) or "convert it to one of these",
    )
