"""The array format: one ``.npz`` with x, y and, if wanted, lengths, split and vocabulary."""

from __future__ import annotations

import io
import math
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from ssmith.core.directories import refuse_existing
from ssmith.core.errors import DataError, InputError
from ssmith.core.files import write_bytes
from ssmith.core.sequences import SPLITS, SequenceData, Task
from ssmith.data.files import require_columns
from ssmith.data.labels import check_task
from ssmith.data.raw import Raw

_KEYS = ("x", "y", "lengths", "split", "vocabulary", "classes", "task")
_ZIP = (zipfile.BadZipFile, zlib.error)
_ARRAY = b"\x93NUMPY"
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
_HELP = "write it with numpy.savez from plain arrays; save_npz shows the format"


def save_npz(data: SequenceData, path: str | Path, *, overwrite: bool = False) -> None:
    """Write a data set to one ``.npz`` that `load_data` reads back to the same digest."""
    target = Path(path)
    if target.suffix != ".npz":
        raise InputError(f"cannot save to {target.name}", allowed="a name that ends in .npz")
    refuse_existing(target, overwrite=overwrite)
    parts = [(name, data.splits[name]) for name in SPLITS if name in data.splits]
    longest = max(part.x.shape[1] for _, part in parts)
    arrays: dict[str, Any] = {
        "x": np.concatenate([_padded(part.x, longest) for _, part in parts]),
        "y": np.concatenate([part.y.cpu().numpy() for _, part in parts]),
        "lengths": np.concatenate([part.lengths.cpu().numpy() for _, part in parts]),
        "split": np.array([name for name, part in parts for _ in range(len(part))]),
        "task": np.array(data.task),
    }
    if data.classes:
        arrays["classes"] = np.array(data.classes)
    if data.vocabulary is not None:
        arrays["vocabulary"] = np.array(data.vocabulary)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    write_bytes(target, buffer.getvalue())


def read_npz(path: Path, columns: Sequence[str] = (), *, labelled: bool = True) -> Raw:
    """Read the arrays of a ``.npz``; the named ``columns`` hold one value for each sequence.

    Without ``labelled`` there need be no ``y``, and every one is 0.
    """
    arrays = _arrays(path)
    where = path.name
    require_columns(columns, list(arrays), path)
    unknown = sorted(set(arrays) - {*_KEYS, *columns})
    missing = [key for key in ("x", "y") if key not in arrays and (labelled or key == "x")]
    if missing or unknown:
        raise DataError(
            f"{where} has arrays {', '.join(sorted(arrays)) or 'none'}",
            allowed=f"x and y, and of the others only {', '.join(_KEYS[2:])}",
            next_step=_HELP,
        )
    vocabulary = _vocabulary(arrays, where)
    x = _series(arrays["x"], where) if vocabulary is None else _tokens(arrays["x"], where)
    return Raw(
        path=path,
        x=x,
        lengths=_lengths(arrays, x, where),
        y=_targets(arrays["y"], where) if labelled else [0] * len(x),
        split_of=_strings(arrays, "split", where),
        vocabulary=vocabulary,
        classes=_strings(arrays, "classes", where) if labelled else None,
        task=_task(arrays, where) if labelled else None,
        columns={name: _column(arrays[name], name, where) for name in columns},
    )


def _column(values: np.ndarray, name: str, where: str) -> list[str]:
    if values.ndim != 1 or values.dtype.kind not in "iuUb":
        raise DataError(
            f"{where}: {name} has shape {values.shape} and type {values.dtype}",
            allowed="one string or integer per sequence",
        )
    return [str(value) for value in values.tolist()]


def _arrays(path: Path) -> dict[str, np.ndarray]:
    if not zipfile.is_zipfile(path):
        raise DataError(
            f"{path.name} is {'not a .npz file' if path.stat().st_size else 'empty'}",
            allowed="a .npz of plain numbers and strings",
            next_step=_HELP,
        )
    try:
        with zipfile.ZipFile(path) as members:
            for member in members.infolist():
                with members.open(member) as stream:
                    check_header(stream, member.file_size)
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
    # Whatever numpy, zip or memory object to (RuntimeError: encrypted), the file is at fault.
    except (ValueError, OSError, EOFError, KeyError, RuntimeError, MemoryError, *_ZIP) as error:
        pickled = "pickle" in str(error).lower()
        what = (
            "holds Python objects, which could run code" if pickled else f"is unreadable: {error}"
        )
        raise DataError(
            f"{path.name} {what}",
            allowed="a .npz of plain numbers and strings",
            next_step=_HELP,
        ) from error
    # A member of the zip that is no array comes back as bytes.
    foreign = [key for key, array in arrays.items() if not isinstance(array, np.ndarray)]
    if foreign:
        raise DataError(f"{path.name} holds {foreign[0]!r}, which is no array", next_step=_HELP)
    return arrays


def check_header(stream: Any, size: int) -> None:
    """Refuse an array whose header promises another size than its file has; back to the begin."""
    begin = stream.tell()
    if stream.read(6) == _ARRAY:
        stream.seek(begin)
        version = np.lib.format.read_magic(stream)
        reader = _HEADERS.get(version)
        if reader is None:
            raise ValueError(f"version {version} of the format")
        try:
            shape, _, kind = reader(stream)
        except Exception as error:
            # numpy reads the header as Python's own text, and raises what that raises.
            raise ValueError(f"its header is no header ({error})") from error
        if not kind.hasobject and math.prod(shape) * kind.itemsize > size:
            raise ValueError(f"it says that it has shape {shape}, and has {size} bytes in all")
    stream.seek(begin)


def _series(x: np.ndarray, where: str) -> Tensor:
    if x.dtype.kind not in "iuf":
        raise DataError(f"{where}: x is of type {x.dtype}", allowed="real numbers")
    if x.ndim == 2 and x.dtype.kind in "iu":
        raise DataError(
            f"{where}: x is a table of integers and vocabulary is missing",
            allowed="integers with vocabulary (tokens), or real numbers (a series)",
            next_step="add vocabulary, or convert x to float32",
        )
    if x.ndim not in {2, 3}:
        raise DataError(
            f"{where}: x has shape {x.shape}",
            allowed="(sequences, steps, channels) or (sequences, steps)",
        )
    return torch.from_numpy((x[..., None] if x.ndim == 2 else x).astype(np.float64))


def _tokens(x: np.ndarray, where: str) -> Tensor:
    if x.dtype.kind not in "iu" or x.ndim != 2:
        raise DataError(
            f"{where}: x has shape {x.shape} and type {x.dtype}",
            allowed="integers (sequences, steps), because vocabulary is given",
        )
    return torch.from_numpy(x.astype(np.int64))


def _lengths(arrays: dict[str, np.ndarray], x: Tensor, where: str) -> Tensor:
    if "lengths" not in arrays:
        return torch.full((x.shape[0],), x.shape[1], dtype=torch.int64)
    lengths = arrays["lengths"]
    if lengths.dtype.kind not in "iu":
        raise DataError(f"{where}: lengths is of type {lengths.dtype}", allowed="integers")
    return torch.from_numpy(lengths.astype(np.int64))


def _targets(y: np.ndarray, where: str) -> list[str] | list[int] | Tensor:
    if y.dtype.kind == "f" and y.ndim >= 1:
        return torch.from_numpy(y.astype(np.float64))
    if y.dtype.kind not in "iuUb" or y.ndim != 1:
        raise DataError(
            f"{where}: y has shape {y.shape} and type {y.dtype}",
            allowed="one string or integer per sequence (classes), or real numbers",
        )
    labels = y.astype(np.int64) if y.dtype.kind == "b" else y
    return cast("list[str] | list[int]", labels.tolist())


def _strings(arrays: dict[str, np.ndarray], key: str, where: str) -> list[str] | None:
    if key not in arrays:
        return None
    values = arrays[key]
    if values.dtype.kind != "U" or values.ndim != 1:
        raise DataError(
            f"{where}: {key} has shape {values.shape} and type {values.dtype}",
            allowed="a row of strings",
        )
    return cast("list[str]", values.tolist())


def _vocabulary(arrays: dict[str, np.ndarray], where: str) -> int | None:
    if "vocabulary" not in arrays:
        return None
    value = arrays["vocabulary"]
    if value.shape not in {(), (1,)} or value.dtype.kind not in "iu" or int(value.item()) < 1:
        raise DataError(f"{where}: vocabulary is {value!r}", allowed="one integer ≥ 1")
    return int(value.item())


def _task(arrays: dict[str, np.ndarray], where: str) -> Task | None:
    if "task" not in arrays:
        return None
    value = arrays["task"]
    if value.shape != () or value.dtype.kind != "U":
        raise DataError(f"{where}: task is {value!r}", allowed="one string")
    check_task(str(value))
    return cast("Task", str(value))


def _padded(x: Tensor, longest: int) -> np.ndarray:
    array = x.detach().cpu().numpy()
    widths = [(0, 0), (0, longest - array.shape[1])] + [(0, 0)] * (array.ndim - 2)
    return np.pad(array, widths)
