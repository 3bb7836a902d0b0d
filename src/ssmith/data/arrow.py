"""Columns: tables as pyarrow reads them, from Parquet, Arrow and data set directories."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssmith.core.errors import DataError, SsmithError
from ssmith.core.files import read_json
from ssmith.data.files import read_bytes, suffix_of

ARROW = (".parquet", ".arrow")
_DICT, _STATE = "dataset_dict.json", "state.json"
# Equal values pack to nearly nothing; what claims more than this for its size is not believed.
_MOST, _PACKED = 1 << 30, 200


def is_dataset(path: Path) -> bool:
    """Return whether a directory was saved by ``datasets``, or holds Parquet files."""
    if (path / _DICT).is_file() or (path / _STATE).is_file():
        return True
    return path.is_dir() and any(path.glob("*.parquet"))


def columns_of(path: Path) -> list[str]:
    """Return the names of the columns."""
    try:
        return [str(name) for name in _schema(path).names]
    except SsmithError:
        raise
    except _faults() as error:
        raise _unreadable(path, error) from error


def read_arrow(path: Path) -> Any:
    """Return a ``.parquet`` or ``.arrow`` file, or a directory of them, as a ``pyarrow.Table``.

    The directory of several splits as one, with a column ``split``. Raises `DataError` if it cannot
    be read.
    """
    try:
        return _table(path)
    except SsmithError:
        raise
    except _faults() as error:
        raise _unreadable(path, error) from error


def as_stored(parts: Sequence[Any], kind: type[np.generic], gap: float = 0) -> NDArray[Any]:
    """Return the numbers of Arrow arrays, one after the other, as they lie in memory.

    pyarrow's own way there loads pandas, which takes longer than most files. Where a cell is empty
    stands ``gap``.
    """
    seen = [np.zeros(0, dtype=kind)]
    for part in parts:
        if len(part):
            stored = part.buffers()[1]
            found = np.frombuffer(stored, dtype=kind)[part.offset : part.offset + len(part)]
            if part.null_count:
                empty = as_stored([part.is_null().cast("int8")], np.int8) == 1
                found = np.where(empty, kind(gap), found)
            seen.append(found)
    return np.concatenate(seen)


def arrow_parts(path: Path, rows: int) -> Iterator[Any]:
    """Yield the rows of such a table (see `read_arrow`) a part at a time, in their order."""
    try:
        yield from _parts(path, rows)
    except SsmithError:
        raise
    except _faults() as error:
        raise _unreadable(path, error) from error


def _parts(path: Path, rows: int) -> Iterator[Any]:
    if (path / _DICT).is_file():
        for name in _listed(path / _DICT, "splits"):
            for part in _parts(path / name, rows):
                yield _named(part, name)
    elif path.is_dir():
        for item in _files(path):
            yield from _parts(item, rows)
    elif suffix_of(path) == ".parquet" and path.suffix.lower() == ".parquet":
        parquet, lib = import_module("pyarrow.parquet"), import_module("pyarrow")
        with parquet.ParquetFile(path) as file:
            _check_size(path, file.metadata)
            for batch in file.iter_batches(min(rows, file.metadata.num_rows or 1)):
                yield lib.Table.from_batches([batch])
            if not file.metadata.num_rows:
                yield file.schema_arrow.empty_table()
    else:
        yield read_arrow(path)


def rows_of(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a table (see `read_arrow`)."""
    table = read_arrow(path)
    try:
        rows: list[dict[str, Any]] = table.to_pylist()
    except _faults() as error:
        raise _unreadable(path, error) from error
    return rows


def _table(path: Path) -> Any:
    arrow = import_module("pyarrow")
    if (path / _DICT).is_file():
        names = _listed(path / _DICT, "splits")
        parts = [_named(_table(path / name), name) for name in names]
        return arrow.concat_tables(parts, promote_options="default")
    if path.is_dir():
        return arrow.concat_tables(map(_table, _files(path)), promote_options="default")
    if suffix_of(path) == ".parquet":
        parquet = import_module("pyarrow.parquet")
        _check_size(path, parquet.read_metadata(path))
        return parquet.read_table(path)
    table = _stream(path).read_all()
    # Nothing in these files is checked as it is read: lengths and offsets may lead anywhere.
    table.validate(full=True)
    return table


def _schema(path: Path) -> Any:
    if (path / _DICT).is_file():
        return _schema(path / _listed(path / _DICT, "splits")[0])
    if path.is_dir():
        return _schema(_files(path)[0])
    if suffix_of(path) == ".parquet":
        return import_module("pyarrow.parquet").read_schema(path)
    return _stream(path).schema


def _stream(path: Path) -> Any:
    """Open an Arrow file in either of its forms: ``datasets`` writes streams."""
    arrow = import_module("pyarrow")
    ipc = import_module("pyarrow.ipc")
    source = arrow.py_buffer(read_bytes(path))
    whole = source.size > 6 and source.slice(0, 6).to_pybytes() == b"ARROW1"
    return ipc.open_file(source) if whole else ipc.open_stream(source)


def _named(table: Any, split: str) -> Any:
    if "split" in table.column_names:
        return table
    arrow = import_module("pyarrow")
    return table.append_column("split", arrow.array([split] * len(table), arrow.string()))


def _files(path: Path) -> list[Path]:
    """Return the files of a directory that hold its rows."""
    if not (path / _STATE).is_file():
        return sorted(path.glob("*.parquet"))
    state = read_json(path / _STATE)
    listed = state.get("_data_files") if isinstance(state, dict) else None
    given = listed if isinstance(listed, list) else []
    names = [item.get("filename") if isinstance(item, dict) else item for item in given]
    return [path / name for name in _inside(path / _STATE, names)]


def _listed(path: Path, key: str) -> list[str]:
    content = read_json(path)
    return _inside(path, content.get(key) if isinstance(content, dict) else None)


def _inside(path: Path, names: Any) -> list[str]:
    """Return names that stand in a file and are those of its neighbours, nothing further away."""
    fine = isinstance(names, list) and names
    if not fine or not all(map(_is_neighbour, names)):
        raise DataError(
            f"{path} names {json.dumps(names)}",
            allowed="names of files or directories beside it, at least one",
            next_step="save the data set again",
        )
    return list(names)


def _is_neighbour(name: Any) -> bool:
    return isinstance(name, str) and name not in ("", "..") and Path(name).name == name


def _check_size(path: Path, metadata: Any) -> None:
    """Refuse a header that promises more than any memory holds, before any is taken."""
    groups = range(metadata.num_row_groups)
    size = sum(metadata.row_group(place).total_byte_size for place in groups)
    most = max(_MOST, _PACKED * path.stat().st_size)
    if not 0 <= size <= most or not 0 <= metadata.num_rows <= most:
        raise DataError(
            f"{path.name} says that it holds {metadata.num_rows} rows of {size} bytes in all",
            allowed=f"at most {most >> 20} MiB in a file of {path.stat().st_size} bytes",
            next_step="write it again, in several files",
        )


def _faults() -> tuple[type[BaseException], ...]:
    """Return what pyarrow raises for a file that is not sound."""
    lib = import_module("pyarrow.lib")
    return (
        lib.ArrowException,
        OSError,
        ValueError,
        MemoryError,
        KeyError,
        OverflowError,
        SystemError,
    )


def _unreadable(path: Path, error: BaseException) -> DataError:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return DataError(
        f"cannot read {path.name}: {reason}",
        allowed="Parquet, Arrow, or a directory that datasets saved",
        next_step="write it again",
    )
