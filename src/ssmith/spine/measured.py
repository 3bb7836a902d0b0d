"""Measure how far a model's outputs move when one layer alone is cut, at a few sizes."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import nn

from ssmith import surgery
from ssmith.core.compensation import RefitConfig
from ssmith.core.errors import InputError
from ssmith.core.moments import Moments
from ssmith.core.rows import Rows
from ssmith.core.scores import Scores
from ssmith.families import find_layers
from ssmith.spine.losses import loss_on

SHARES = (0.0, 0.05, 0.1, 0.2, 0.4, 1.0)
"""Shares of a layer's states at which it is measured; close where a cut is deep."""


def loss_curves(
    model: nn.Module,
    scores: Scores,
    moments: Mapping[str, Moments],
    rows: Rows,
    *,
    shares: Sequence[float] = SHARES,
) -> dict[str, list[tuple[int, float]]]:
    """Cut each layer alone to a few sizes, refit its read-out, and measure what that does.

    The loss is the mean divergence from the dense model's answers: of class probabilities
    (Kullback-Leibler) or, for anything else, squared. No label is read.

    ``shares`` are of a layer's states that stay, in [0, 1]; each layer gets pairs of states kept
    and loss, in rising order.
    """
    if not shares or not all(0 <= share <= 1 for share in shares):
        raise InputError(f"shares are {list(shares)}", allowed="fractions in [0, 1]")
    loss = loss_on(model, rows)
    curves = {}
    for name, layer in find_layers(model).items():
        modes, values = layer.modes(name), scores.values[name].flatten()
        ranked = torch.where(scores.protected[name].flatten(), torch.inf, values)
        ranked = torch.where(modes.present, ranked, -torch.inf)
        order = ranked.argsort(descending=True, stable=True)[: int(modes.present.sum())]
        curve = []
        for count in sorted({round(share * len(order)) for share in shares}):
            keep = torch.zeros(modes.count, dtype=torch.bool)
            keep[order[:count]] = True
            work = copy.deepcopy(model)
            cut = find_layers(work)[name]
            cut.write_(
                surgery.refit_readout(modes, moments[name], keep, RefitConfig(), width=cut.width)
            )
            cut.mask_(keep.reshape(cut.grid()).to(next(cut.parameters()).device))
            curve.append((count, loss(work)))
        curves[name] = curve
    return curves
