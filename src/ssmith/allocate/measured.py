"""Weigh layers by measured loss: what the model loses when one layer alone keeps fewer states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float64
from torch import Tensor

from ssmith.core.convex import hull_slopes
from ssmith.core.errors import InputError
from ssmith.core.scores import Scores

Curve = Sequence[tuple[int, float]]
"""States kept of a layer → the model's loss with all other layers whole."""


def by_measured_loss(scores: Scores, curves: Mapping[str, Curve]) -> Scores:
    """Replace scores by the measured loss that each state saves, in the order they had.

    Within a layer states keep their order. The curve's lower convex hull says what the k-th state
    to stay saves; its slopes fall with k, so taking states of all layers in falling order of them
    meets any budget at the least sum of losses on the hulls. Floors and protected states are the
    allocator's, as for any scores.

    Every layer has a curve, at two or more different numbers of states; the new scores may be
    compared across layers.
    """
    values = {}
    for layer, own in scores.values.items():
        flat = own.flatten()
        free = ~(scores.protected[layer] | scores.absent[layer]).flatten()
        held = int(scores.protected[layer].sum())
        saved = slopes(_checked(layer, curves), held + int(free.sum()))[held:]
        order = torch.where(free, flat, -torch.inf).argsort(descending=True, stable=True)
        new = torch.zeros_like(flat)
        new[order[: len(saved)]] = saved
        values[layer] = new.reshape(own.shape)
    return replace(
        scores,
        values=values,
        pool="model",
        criterion={**scores.criterion, "weigh": "measured loss"},
    )


def slopes(curve: Curve, count: int) -> Float64[Tensor, "k"]:
    """Return what each of the first ``count`` states saves, on the lower convex hull of a curve.

    Beyond the curve's ends its first and last slope go on. A loss that rises with more states is
    noise of the measurement and saves nothing; equal slopes are told apart by a hair, so that
    states leave in order.
    """
    sizes, losses = zip(*sorted(dict(curve).items()), strict=True)
    at = torch.tensor(sizes, dtype=torch.float64)
    hull = -hull_slopes(torch.tensor(losses, dtype=torch.float64), at)
    ends = [*sizes[1:-1], count]
    saved = torch.zeros(count, dtype=torch.float64)
    for start, end, slope in zip([0, *sizes[1:-1]], ends, hull.tolist(), strict=True):
        saved[start:end] = max(0.0, slope)
    unit = float(saved.max()) or 1.0
    hair = torch.arange(count, 0, -1, dtype=torch.float64) / max(count, 1)
    return saved + 1e-9 * unit * hair


def _checked(layer: str, curves: Mapping[str, Curve]) -> Curve:
    curve = curves.get(layer, ())
    finite = bool(torch.isfinite(torch.tensor([loss for _, loss in curve])).all())
    if len(dict(curve)) < 2 or not finite:
        raise InputError(
            f"layer {layer}: its curve is {list(curve)}",
            allowed="finite losses at two or more different numbers of states",
        )
    return curve
