"""Recordings from files of whole sequences: arrays, archives of series, records of steps."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from ssmith.core.errors import DataError
from ssmith.data.raw import NAME, Raw
from ssmith.recordings.recording import Labels, Recordings


def of_raw(raw: Raw) -> Recordings:
    """Return the sequences of a file as recordings; raises `DataError` if it holds tokens.

    A target with several numbers is several targets.
    """
    if raw.vocabulary is not None:
        raise DataError(
            f"{raw.path.name} holds tokens, not measurements",
            allowed="series of real numbers",
            next_step="write a recipe for it: tokens are taken as they are",
        )
    x, lengths = raw.x.double().numpy(), raw.lengths.tolist()
    channels = raw.channels or tuple(f"channel {place}" for place in range(x.shape[2]))
    count = len(lengths)
    called = raw.columns.get(NAME) or raw.names or [str(place) for place in range(count)]
    labels = _labels(raw) if len(raw.y) == count else None
    return Recordings(
        path=raw.path,
        names=tuple(called),
        channels=channels,
        values=tuple(x[place, :length] for place, length in enumerate(lengths)),
        labels=None if labels is None else tuple(labels[:, None, :]),
        targets=() if labels is None else _targets(labels.shape[1]),
        splits=None if raw.split_of is None else tuple(raw.split_of),
        details=dict(raw.details),
    )


def _labels(raw: Raw) -> Labels:
    y = raw.y
    if isinstance(y, Tensor):
        return np.array(y.double().reshape(len(y), -1).numpy(), dtype=np.str_)
    names = raw.classes
    told = [names[int(item)] if names and isinstance(item, int) else str(item) for item in y]
    return np.array(told, dtype=np.str_)[:, None]


def _targets(count: int) -> tuple[str, ...]:
    return ("label",) if count == 1 else tuple(f"target {place}" for place in range(count))
