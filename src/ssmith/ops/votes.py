"""How often each unit is among the smallest of a row: exact selection, ties defined."""

from __future__ import annotations

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from ssmith.core.errors import InputError
from ssmith.ops.native import library
from ssmith.ops.native.loading import parts
from ssmith.ops.native.structs import VotesArgs, address


def votes_for_smallest(
    metric: Float[Tensor, "l *units"], count: int, scale: Float[Tensor, "*units"] | None = None
) -> Float64[Tensor, "*units"]:
    """Return in how many rows a unit is among the ``count`` smallest.

    NaN counts as largest; of equals the later ones are chosen, the last axis first. ``scale`` is
    multiplied with every row first. Of units along two axes, the kernels read either order of
    memory.
    """
    rows, units = len(metric), metric.shape[1:]
    s = units.numel()
    if not 0 <= count <= s:
        raise InputError(f"{count} votes a row", allowed=f"0 to {s}, the number of units")
    kernels = library()
    if not count or not rows:
        return torch.zeros(units, dtype=torch.float64, device=metric.device)
    if kernels is None or metric.device.type != "cpu" or metric.dtype == torch.float64:
        scaled = metric if scale is None else metric * scale
        return _votes_torch(scaled.flatten(1), count).view(units)
    turned = len(units) == 2 and metric.mT.is_contiguous()
    metric = metric.mT if turned else metric
    metric = metric.float().contiguous()
    if scale is not None:
        scale = (scale.mT if turned else scale).float().contiguous()
    counts = torch.zeros(parts(), s, dtype=torch.int64)
    kernels.call("votes", VotesArgs(
        rows=rows, s=s, width=units[0] if turned else 1, count=count, parts=len(counts),
        metric=address(metric), scale=address(scale), counts=address(counts),
    ))  # fmt: skip
    votes = counts.sum(0).double().view(metric.shape[1:])
    return votes.mT if turned else votes


def _votes_torch(metric: Tensor, count: int) -> Float64[Tensor, "s"]:
    votes = torch.zeros(metric.shape[1], dtype=torch.float64, device=metric.device)
    largest_first = metric.sort(dim=1, descending=True, stable=True).indices
    chosen = largest_first[:, metric.shape[1] - count :].flatten()
    return votes.index_add_(0, chosen, torch.ones_like(chosen, dtype=torch.float64))
