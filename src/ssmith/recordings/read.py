"""One door to recordings, whatever they are stored in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ssmith.core.errors import DataError, InputError
from ssmith.core.files import beside
from ssmith.core.preparation import PrepareConfig
from ssmith.data.files import require_there
from ssmith.recordings.columns import TABLES, is_table, read_columns
from ssmith.recordings.cut import AHEAD
from ssmith.recordings.recording import Recordings
from ssmith.recordings.table import mapped, of_table

ALLOWED = TABLES


def read(path: Path, config: PrepareConfig) -> tuple[Recordings, PrepareConfig]:
    """Read recordings to learn from, and the settings with what their source decides.

    Args:
        path: a table: ``.csv``, ``.tsv``, ``.txt``, ``.parquet``, ``.arrow``, ``.jsonl``, packed
            (``.gz``) or not, or the directory of a data set; one step a row.
        config: what its columns are.

    Returns:
        The recordings, and the settings that read the like of them.

    Raises:
        InputError: if there is no such source, or none of a kind that is read.
        DataError: if it is not what the settings say.
    """
    require_there(path)
    if is_table(path):
        columns = read_columns(path)
        config = mapped(config, columns.names)
        return of_table(columns, config, labelled=bool(config.label)), config
    raise _no_reader(path)


def read_new(path: Path, config: PrepareConfig) -> Recordings:
    """Read recordings of the kind that a model was trained on; labels may be missing."""
    require_there(path)
    if is_table(path):
        columns = read_columns(path)
        # Which columns are channels is decided by their names, not by what is left over.
        left = {*config.plain_columns()}
        left |= set() if config.task in AHEAD else {*config.label}
        names = [name for name in columns.names if name not in left]
        there = [name for name in names if name in config.channels or columns.is_numeric(name)]
        if not there:
            raise DataError(
                f"{path.name} has columns {', '.join(columns.names)}",
                allowed=f"{', '.join(config.channels)}, as the model reads",
            )
        return of_table(columns, replace(config, channels=tuple(there)))
    raise _no_reader(path)


def _no_reader(path: Path) -> InputError:
    return InputError(
        f"cannot read {str(path)!r} as recordings",
        allowed=f"a path that ends in {', '.join(ALLOWED)}",
        next_step=beside(path) or "convert it to one of these",
    )
