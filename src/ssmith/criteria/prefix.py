"""Prefix normalisation: a score's share of the scores at least as large, within its layer."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float64
from torch import Tensor

from ssmith.core.errors import UnsupportedError
from ssmith.core.layers import Modes
from ssmith.core.layout import Layout

Over = Literal["layer", "channel"]


def prefix_ratio(energy: Float64[Tensor, "*g s"], epsilon: float = 0.0) -> Float64[Tensor, "*g s"]:
    """Divide each energy by the sum of all energies at least as large, itself included.

    ``ratio_(k) = e_(k) / (Σ_{j≤k} e_(j) + ε)`` in descending order along the last axis. With
    ε = 0 the largest energy always gets 1 and the scale of a row cancels. Equal energies take
    their ranks in order of index. An energy of 0 gets 0, also in a row of zeros: nothing is lost
    with a unit that carries nothing, so such a row holds no unit that must stay.

    ε is an absolute constant ≥ 0, in units of the energies; ratios are in [0, 1].

    Source: LAMP (arXiv 2010.07611) for squared weights; LAST (arXiv 2411.02824) for squared norms.
    Differs: rows are scaled by their largest entry first, so that sums cannot overflow.
    """
    if energy.shape[-1] == 0:
        return energy.clone()
    largest = energy.amax(dim=-1, keepdim=True)
    scale = torch.where(largest > 0, largest, torch.ones_like(largest))
    ordered, order = (energy / scale).sort(dim=-1, descending=True, stable=True)
    # A row of zeros has sums of zero; any positive denominator leaves its ratios at zero.
    total = ordered.cumsum(dim=-1) + epsilon / scale
    ratio = ordered / torch.where(total > 0, total, torch.ones_like(total))
    return torch.zeros_like(energy).scatter_(-1, order, ratio)


def normalise(
    modes: Modes, energy: Float64[Tensor, "s"], over: Over, epsilon: float = 0.0
) -> Float64[Tensor, "s"]:
    """Apply `prefix_ratio` over a whole layer or within each of its channels."""
    if over == "layer":
        return prefix_ratio(energy, epsilon)
    if modes.channel is None:
        raise UnsupportedError(
            f"layer {modes.layer} is MIMO: each of its states serves all channels, "
            "so scores cannot be normalised per channel",
            next_step="use normalise_over='layer'",
        )
    # Channels are rows padded with zeros, which sort last and add nothing.
    layout = Layout.of(modes)
    return layout.flat(prefix_ratio(layout.place(energy), epsilon))
