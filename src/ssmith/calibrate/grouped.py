"""States of Mamba-2's mixers at some steps: all that criteria of a group's states need."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch

from ssmith.core.grouped import StateSample
from ssmith.families.mamba2.grouped import GroupedLayer, GroupedParts
from ssmith.ops.ssd import ssd

FIRST = 8
"""Steps before the first one that is looked at, where not all are: states begin at zero."""


def sampled(length: int, stride: int) -> range:
    """Return how many steps are over at those that are looked at."""
    return range(1 if stride == 1 else min(FIRST, length), length + 1, stride)


def sample_states(layer: GroupedLayer, parts: GroupedParts, stride: int) -> Iterator[StateSample]:
    """Yield the states at every so many steps; the scan runs once, piece by piece."""
    scan, g = parts.scan, layer.g
    length, h, start = scan.x.shape[1], scan.start(), 0
    dt = scan.step_sizes()
    for end in sampled(length, stride):
        piece = slice(start, end)
        valid = None if scan.valid is None else scan.valid[:, piece]
        y, h = ssd(
            replace(
                scan, x=scan.x[:, piece], dt=scan.dt[:, piece], B=scan.B[:, piece],
                C=scan.C[:, piece], valid=valid, h0=h,
            )
        )  # fmt: skip
        gain = layer.gain(y[:, -1].flatten(1), parts.gate[:, end - 1])
        counts = torch.ones(len(h), dtype=torch.bool, device=h.device)
        yield StateSample(
            states=h.unflatten(1, (g, -1)).flatten(2, 3),
            B=scan.B[:, end - 1], C=scan.C[:, end - 1],
            steps=dt[:, end - 1].unflatten(-1, (g, -1)), gain=gain.unflatten(-1, (g, -1)),
            valid=counts if valid is None else valid[:, -1],
        )  # fmt: skip
        start = end
