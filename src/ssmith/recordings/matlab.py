"""MATLAB files (version 5): an array of series, or one long recording, and labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssmith.core.errors import DataError
from ssmith.core.optional import require
from ssmith.recordings.recording import Labels, Recordings

MAT = ".mat"
_SERIES, _LABELS = ("x", "data", "signal", "signals", "values"), ("y", "label", "labels", "target")


def read_mat(path: Path) -> Recordings:
    """Read ``x`` and, if it is there, ``y``.

    ``x`` is (sequences, steps, channels), or (steps, channels) for one recording; ``y`` has a label
    for each sequence, or for each step of one recording. Names may be those that are customary;
    where they are not, the array with the most numbers is taken, and of the others the one that has
    as many entries as there are sequences or steps. Raises `DataError` if it cannot be read, or
    holds no such array, and `MissingExtraError` without scipy.
    """
    arrays = _arrays(path)
    numbers = {name: item for name, item in arrays.items() if item.dtype.kind in "iuf"}
    name = next((key for key in numbers if key.lower() in _SERIES), "")
    name = name or max(numbers, key=lambda key: numbers[key].size, default="")
    if not name or numbers[name].ndim not in (2, 3):
        shapes = ", ".join(f"{key} {item.shape}" for key, item in arrays.items()) or "nothing"
        raise DataError(
            f"{path.name} holds {shapes}",
            allowed="x: (sequences, steps, channels), or (steps, channels)",
        )
    x = np.asarray(numbers[name], dtype=np.float64)
    # MATLAB knows no vectors: one channel of a recording may lie in a row.
    x = x.T if x.ndim == 2 and x.shape[0] == 1 else x
    values = (x,) if x.ndim == 2 else tuple(x)
    labels = _labels({key: item for key, item in arrays.items() if key != name}, len(x))
    split: tuple[Labels, ...] | None = None
    if labels is not None:
        split = (labels,) if x.ndim == 2 else tuple(labels[:, None])
    return Recordings(
        path=path,
        names=(path.stem,) if x.ndim == 2 else tuple(map(str, range(len(x)))),
        channels=tuple(f"channel {place}" for place in range(x.shape[-1])),
        values=values,
        labels=split,
        targets=("label",) if split is not None else (),
        details={"arrays": {key: list(item.shape) for key, item in arrays.items()}},
    )


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    library = require("scipy.io", extra="matlab", purpose="reading .mat")
    try:
        found = library.loadmat(path, squeeze_me=False, chars_as_strings=True)
    except NotImplementedError as error:
        raise DataError(
            f"{path.name} is of version 7.3", allowed="version 5 to 7",
            next_step="in MATLAB: save(name, '-v7')",
        ) from error  # fmt: skip
    except Exception as error:
        # Whatever scipy objects to, the file is at fault.
        raise DataError(f"cannot read {path.name}: {error}", next_step="check the file") from error
    return {key: np.asarray(item) for key, item in found.items() if not key.startswith("__")}


def _labels(arrays: dict[str, NDArray[Any]], count: int) -> Labels | None:
    fitting = {key: item for key, item in arrays.items() if item.size == count}
    name = next((key for key in fitting if key.lower() in _LABELS), next(iter(fitting), ""))
    if not name:
        return None
    cells = [_text(item) for item in fitting[name].reshape(-1)]
    return np.array(cells, dtype=np.str_)[:, None]


def _text(item: Any) -> str:
    while isinstance(item, np.ndarray) and item.size == 1:
        item = item.reshape(-1)[0]
    if isinstance(item, np.floating | float) and float(item).is_integer():
        return str(int(item))
    return str(item).strip()
