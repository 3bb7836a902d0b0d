"""States of Mamba-2's mixers at some steps: all that criteria of a group's states need."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from ssmith.core.grouped import ReadSample, StateSample
from ssmith.families.mamba2.grouped import GroupedLayer, GroupedParts
from ssmith.ops.ssd import SSDInputs, ssd

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
    dt, outward = scan.step_sizes(), layer.outward()
    for end, y, h in _piecewise(scan, stride):
        gain = layer.gain(y.flatten(1), parts.gate[:, end - 1], outward)
        yield StateSample(
            states=_by_group(h, g),
            B=scan.B[:, end - 1], C=scan.C[:, end - 1],
            steps=dt[:, end - 1].unflatten(-1, (g, -1)), gain=gain.unflatten(-1, (g, -1)),
            valid=_counts(scan, end),
        )  # fmt: skip


def sample_reads(
    layer: GroupedLayer, parts: GroupedParts, stride: float, places: Int64[Tensor, "g k"]
) -> Iterator[ReadSample]:
    """Yield some states of each group and what is read of all, at the steps of `sample_states`.

    All states run through the scan as fast as ever, for the sake of what is read of them; piece by
    piece, which is slow, only those run that are asked for.
    """
    scan, g = parts.scan, layer.g
    outward, plain = layer.outward(), replace(scan, D=None, h_offset=None)
    read, by_head = ssd(plain)[0], places.repeat_interleave(scan.x.shape[2] // g, 0)[:, None]
    some = replace(
        plain, B=_some(scan.B, places), C=_some(scan.C, places), h0=_some(scan.start(), by_head)
    )
    for end, _, h in _piecewise(some, stride):
        own = read[:, end - 1]
        y = own + _beside(scan, end - 1)
        gain = layer.gain(y.flatten(1), parts.gate[:, end - 1], outward)
        yield ReadSample(
            states=_by_group(h, g), read=own.flatten(1).unflatten(-1, (g, -1)),
            gain=gain.unflatten(-1, (g, -1)), valid=_counts(scan, end),
        )  # fmt: skip


def _piecewise(
    scan: SSDInputs, stride: float
) -> Iterator[tuple[int, Float[Tensor, "b h p"], Float[Tensor, "b h p n"]]]:
    """Run a scan from one step that is looked at to the next.

    Yields how many steps are over, and the outputs and the states of the last of them.
    """
    h, start = scan.start(), 0
    for end in sampled(scan.x.shape[1], stride):
        piece = slice(start, end)
        valid = None if scan.valid is None else scan.valid[:, piece]
        y, h = ssd(
            replace(
                scan, x=scan.x[:, piece], dt=scan.dt[:, piece], B=scan.B[:, piece],
                C=scan.C[:, piece], valid=valid, h0=h,
            )
        )  # fmt: skip
        yield end, y[:, -1], h
        start = end


def _some(values: Float[Tensor, "... n"], places: Int64[Tensor, "... k"]) -> Float[Tensor, "... k"]:
    return values.gather(-1, places.expand(*values.shape[:-1], -1))


def _beside(scan: SSDInputs, step: int) -> Float[Tensor, "b h p"] | float:
    """Return what a step's outputs hold beside what is read of the states."""
    found: Tensor | float = 0.0 if scan.D is None else scan.D[:, None] * scan.x[:, step]
    if scan.h_offset is None:
        return found
    C = scan.C[:, step].repeat_interleave(scan.x.shape[2] // scan.C.shape[2], 1)
    read: Tensor = torch.einsum("hpn,bhn->bhp", scan.h_offset, C.to(scan.h_offset))
    return read + found


def _by_group(h: Float[Tensor, "b h p n"], g: int) -> Float[Tensor, "b g c n"]:
    states: Tensor = h.unflatten(1, (g, -1)).flatten(2, 3)
    return states


def _counts(scan: SSDInputs, end: int) -> Bool[Tensor, "b"]:
    """Return which rows have a step with which so many are over."""
    if scan.valid is None:
        return torch.ones(len(scan.x), dtype=torch.bool, device=scan.x.device)
    return scan.valid[:, end - 1]
