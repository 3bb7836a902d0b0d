"""States of Mamba-2's mixers at some steps: all that criteria of a group's states need."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import torch

from ssmith.core.grouped import StateSample
from ssmith.families.mamba2.grouped import GroupedLayer, GroupedParts
from ssmith.ops.ssd import ssd

FIRST = 8
"""Steps before the first one that is looked at, where not all are: states begin at zero."""
_GOLDEN = (math.sqrt(5) - 1) / 2


def sampled(length: int, stride: float) -> list[int]:
    """Return how many steps are over at those that are looked at: one in each stretch of steps.

    Its place in its stretch moves on by the golden ratio. At equal distances a text that repeats
    itself, a key and then its value, would be seen at its values alone.
    """
    if stride == 1:
        return list(range(1, length + 1))
    first = min(FIRST, length)
    ends = [
        int(first + stride * (place + place * _GOLDEN % 1))
        for place in range(math.ceil((length + 1 - first) / stride))
    ]
    return [end for end in dict.fromkeys(ends) if end <= length]


def sample_states(layer: GroupedLayer, parts: GroupedParts, stride: float) -> Iterator[StateSample]:
    """Yield the states at every so many steps; the scan runs once, piece by piece."""
    scan, g = parts.scan, layer.g
    length, h, start = scan.x.shape[1], scan.start(), 0
    dt, outward = scan.step_sizes(), layer.outward()
    for end in sampled(length, stride):
        piece = slice(start, end)
        valid = None if scan.valid is None else scan.valid[:, piece]
        y, h = ssd(
            replace(
                scan, x=scan.x[:, piece], dt=scan.dt[:, piece], B=scan.B[:, piece],
                C=scan.C[:, piece], valid=valid, h0=h,
            )
        )  # fmt: skip
        gain = layer.gain(y[:, -1].flatten(1), parts.gate[:, end - 1], outward)
        counts = torch.ones(len(h), dtype=torch.bool, device=h.device)
        yield StateSample(
            states=h.unflatten(1, (g, -1)).flatten(2, 3),
            B=scan.B[:, end - 1], C=scan.C[:, end - 1],
            steps=dt[:, end - 1].unflatten(-1, (g, -1)), gain=gain.unflatten(-1, (g, -1)),
            valid=counts if valid is None else valid[:, -1],
        )  # fmt: skip
        start = end
