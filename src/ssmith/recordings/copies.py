"""Rows of other splits that are nearly rows of the training split."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional

from ssmith.core.sequences import Sequences

_POINTS = 16
_NEAR = 0.02
"""Two rows are nearly the same where they differ by this share of the spread of the data."""
_FLAT = 0.1
"""A row whose own spread is below this share is flat: flat rows are like each other by nature."""
_AT_ONCE = 1024


def near_copies(splits: dict[str, Sequences]) -> dict[str, int]:
    """Return how many rows of each split are nearly rows of the training split, copies among them.

    Rows of scaled series are compared by their means over 16 equal parts; tokens have none.
    """
    train = splits.get("train")
    if train is None or not len(train) or train.x.ndim != 3:
        return {}
    known, scale = _shapes(train.x, train.lengths), float(train.x.std())
    if not scale:
        return {}
    found = {}
    for name, part in splits.items():
        if name == "train" or not len(part):
            continue
        shapes = _shapes(part.x, part.lengths)
        moving = shapes.std(dim=1).amax(1) > _FLAT * scale
        count = 0
        for place in range(0, len(shapes), _AT_ONCE):
            here = shapes[place : place + _AT_ONCE]
            gaps = torch.cdist(here.flatten(1), known.flatten(1)) / here[0].numel() ** 0.5
            near = (gaps < _NEAR * scale) & _alike(part, train, place, len(here))
            count += int((near.any(1) & moving[place : place + _AT_ONCE]).sum())
        if count:
            found[name] = count
    return found


def _alike(part: Sequences, train: Sequences, start: int, count: int) -> Tensor:
    """Return which pairs of rows are about as long as each other."""
    own = part.lengths[start : start + count, None].double()
    return (own / train.lengths[None, :] - 1).abs() < _NEAR


def _shapes(x: Float[Tensor, "b l c"], lengths: Int64[Tensor, "b"]) -> Float[Tensor, "b p c"]:
    """Return each row by its means over equal parts."""
    found = torch.empty(len(x), _POINTS, x.shape[2])
    for length in lengths.unique().tolist():
        chosen = lengths == length
        part = x[chosen, :length].transpose(1, 2)
        found[chosen] = functional.adaptive_avg_pool1d(part, _POINTS).transpose(1, 2)
    return found
