"""What rows are like before a network sees them: a few numbers per row and channel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from ssmith.core.rows import Rows
from ssmith.core.sequences import Sequences
from ssmith.core.tokens import TokenWindows
from ssmith.core.trees import tensors_in
from ssmith.watch.sketch import Values

Readings = dict[str, Values]
"""One number per row, by name: ``kind/place/what``, e.g. ``input/channel 0/mean``."""
PARTS = 4
"""Parts of a row whose means are readings of their own: shape, where mean and spread are scaled."""
_SMOOTHED = 0.5


@dataclass(frozen=True, kw_only=True)
class InputRange:
    """What rows of the profile held: ends of each channel, or how often each token came."""

    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    unigrams: tuple[int, ...] = ()


def range_of(rows: Rows) -> InputRange:
    """Return what rows hold: ranges of channels, or counts of tokens; empty for unknown builds."""
    if isinstance(rows, TokenWindows):
        counts = torch.bincount(_valid_tokens(rows.ids, rows.lengths), minlength=rows.vocabulary)
        return InputRange(unigrams=tuple(counts.tolist()))
    found = _blocks(rows)
    if found is None:
        return InputRange()
    x, valid = found
    if not x.is_floating_point():
        return InputRange(unigrams=tuple(torch.bincount(x[valid]).tolist()))
    inside = x[valid].double()
    return InputRange(
        low=tuple(inside.nan_to_num(nan=torch.inf).amin(0).tolist()),
        high=tuple(inside.nan_to_num(nan=-torch.inf).amax(0).tolist()),
    )


def read_inputs(rows: Rows, known: InputRange, *, own: bool) -> Readings:
    """Return what each row is like; no readings for rows of a build that is not known.

    ``known`` is what the profile's rows held; of its ``own`` rows each is held against the others.
    """
    if isinstance(rows, TokenWindows):
        valid = torch.arange(rows.ids.shape[1]) < rows.lengths[:, None]
        return _of_tokens(rows.ids, valid, known, own=own)
    found = _blocks(rows)
    if found is None:
        return {}
    x, valid = found
    if x.is_floating_point():
        return _of_series(x.double(), valid, known)
    return _of_tokens(x, valid, known, own=own)


def _blocks(rows: Rows) -> tuple[Tensor, Bool[Tensor, "b l"]] | None:
    """Return all rows as one padded block, and which steps count; None if they are none."""
    if isinstance(rows, Sequences):
        return rows.x, torch.arange(rows.x.shape[1]) < rows.lengths[:, None]
    batches: list[Any] = [rows.batch(items) for items in rows.ranges(1)]
    firsts = [next(tensors_in(batch.inputs)) for batch in batches]
    if {item.ndim for item in firsts} != {3} or len({item.shape[1:] for item in firsts}) != 1:
        return None
    x = torch.cat(firsts)
    if not x.is_floating_point():
        return None
    masks = [
        batch.valid if isinstance(batch.valid, Tensor) else torch.ones(item.shape[:2]).bool()
        for batch, item in zip(batches, firsts, strict=True)
    ]
    return x, torch.cat(masks)


def _of_series(
    x: Float64[Tensor, "b l c"], valid: Bool[Tensor, "b l"], known: InputRange
) -> Readings:
    there = valid[..., None] & ~x.isnan()
    value = x.nan_to_num(nan=0.0) * there
    count = there.sum(1).clamp(min=1)
    mean = value.sum(1) / count
    spread = ((value - mean[:, None]).square() * there).sum(1) / count
    low, high = torch.tensor(known.low), torch.tensor(known.high)
    steps = valid.sum(1, keepdim=True).clamp(min=1)
    pairs = there[:, 1:] & there[:, :-1]
    jumps = ((value[:, 1:] - value[:, :-1]).abs() * pairs).sum(1) / pairs.sum(1).clamp(min=1)
    found = {
        "mean": mean,
        "spread": spread.sqrt(),
        "smallest": x.masked_fill(~there, torch.inf).amin(1),
        "largest": x.masked_fill(~there, -torch.inf).amax(1),
        "jumps": jumps,
        "missing": 1.0 - there.sum(1) / steps,
        "out of range": (((value < low) | (value > high)) & there).sum(1) / steps,
    }
    place = torch.arange(x.shape[1]) * PARTS // steps
    for part in range(PARTS):
        here = there & (place == part)[..., None]
        sums = (value * here).sum(1)
        found[f"part {part + 1} of {PARTS}"] = sums / here.sum(1).clamp(min=1)
    readings = {
        f"input/channel {channel}/{name}": _finite(values[:, channel])
        for name, values in found.items()
        for channel in range(x.shape[2])
    }
    return readings | {"input/rows/length": valid.sum(1).double().numpy()}


def _finite(values: Tensor) -> Values:
    """Return numbers; 0 for what a row without a single valid step has none of."""
    found: Values = values.double().nan_to_num(posinf=0.0, neginf=0.0).numpy()
    return found


def _of_tokens(
    ids: Int64[Tensor, "b l"], valid: Bool[Tensor, "b l"], known: InputRange, *, own: bool
) -> Readings:
    vocabulary = max(len(known.unigrams), int(ids.max()) + 1)
    counts = torch.zeros(vocabulary, dtype=torch.float64)
    counts[: len(known.unigrams)] = torch.tensor(known.unigrams, dtype=torch.float64)
    lengths = valid.sum(1)
    surprise, unseen = torch.zeros(len(ids)).double(), torch.zeros(len(ids)).double()
    for row, (tokens, mask) in enumerate(zip(ids, valid, strict=True)):
        mine = tokens[mask]
        # A row of the profile would find itself in it, and look less surprising than it is.
        there = counts - mine.bincount(minlength=vocabulary) if own else counts
        total = there.sum() + _SMOOTHED * vocabulary
        surprise[row] = -((there[mine] + _SMOOTHED) / total).log().mean()
        unseen[row] = (there[mine] == 0).double().mean()
    return {
        "input/tokens/surprise of single tokens": surprise.numpy(),
        "input/tokens/never seen": unseen.numpy(),
        "input/rows/length": lengths.double().numpy(),
    }


def _valid_tokens(ids: Int64[Tensor, "b l"], lengths: Int64[Tensor, "b"]) -> Int64[Tensor, "t"]:
    return ids[torch.arange(ids.shape[1]) < lengths[:, None]]
