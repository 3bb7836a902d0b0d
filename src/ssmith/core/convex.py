"""Convex hulls of costs: what a budget is spent along."""

from __future__ import annotations

import torch
from jaxtyping import Float64
from torch import Tensor


def hull_slopes(
    costs: Float64[Tensor, "*rows c"], at: Float64[Tensor, "c"]
) -> Float64[Tensor, "*rows c-1"]:
    """Return the slope of the lower convex hull over each step; slopes never fall along a row.

    The slope over the step from ``j`` to ``j + 1`` is ``max_{a ≤ j} min_{b > j}`` of the slope of
    the chord from ``a`` to ``b``. Spending a budget by the smallest slopes first is optimal at the
    hull's corners.
    """
    count = costs.shape[-1]
    slopes = []
    for step in range(count - 1):
        chords = [
            torch.stack(
                [
                    (costs[..., end] - costs[..., start]) / (at[end] - at[start])
                    for end in range(step + 1, count)
                ]
            ).amin(0)
            for start in range(step + 1)
        ]
        slopes.append(torch.stack(chords).amax(0))
    return torch.stack(slopes, dim=-1)
