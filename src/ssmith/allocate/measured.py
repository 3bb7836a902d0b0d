"""Weigh layers by measured loss: what the model loses when one layer alone keeps fewer states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

import torch
from jaxtyping import Float64
from torch import Tensor

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
    points = sorted(dict(curve).items())
    hull: list[tuple[int, float]] = []
    for x, y in points:
        while len(hull) > 1 and _turns(hull[-2], hull[-1], (x, y)):
            hull.pop()
        hull.append((x, y))
    saved = torch.zeros(count, dtype=torch.float64)
    for place, (left, right) in enumerate(pairwise(hull)):
        slope = max(0.0, (left[1] - right[1]) / (right[0] - left[0]))
        start = 0 if place == 0 else left[0]
        end = count if place == len(hull) - 2 else right[0]
        saved[start:end] = slope
    unit = float(saved.max()) or 1.0
    hair = torch.arange(count, 0, -1, dtype=torch.float64) / max(count, 1)
    return saved + 1e-9 * unit * hair


def _turns(a: tuple[int, float], b: tuple[int, float], c: tuple[int, float]) -> bool:
    """Whether b lies on or above the line from a to c."""
    return (b[1] - a[1]) * (c[0] - a[0]) >= (c[1] - a[1]) * (b[0] - a[0])


def _checked(layer: str, curves: Mapping[str, Curve]) -> Curve:
    curve = curves.get(layer, ())
    finite = bool(torch.isfinite(torch.tensor([loss for _, loss in curve])).all())
    if len(dict(curve)) < 2 or not finite:
        raise InputError(
            f"layer {layer}: its curve is {list(curve)}",
            allowed="finite losses at two or more different numbers of states",
        )
    return curve
