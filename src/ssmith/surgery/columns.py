"""New rows of the projection that makes B and C, so that kept columns make up for removed ones."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from ssmith.core.errors import UnsupportedError
from ssmith.core.layers import STATE
from ssmith.families.mamba.family import cut_
from ssmith.families.mamba.selective import SelectiveLayer
from ssmith.families.masks import reapply_masks_


@torch.no_grad()
def shrink_(
    layer: SelectiveLayer,
    keep: Bool[Tensor, "n"],
    *,
    B: Float[Tensor, "k e"] | None = None,
    C: Float[Tensor, "k e"] | None = None,
) -> None:
    """Remove whole states; what stays gets the rows of ``x_proj`` that are given for B and C."""
    cut_(layer, STATE, keep)
    weight, n = layer.mixer.x_proj.weight, layer.n
    for rows, part in ((B, weight[-2 * n : -n]), (C, weight[-n:])):
        if rows is not None:
            part.copy_(rows)
    reapply_masks_(layer.module)


@torch.no_grad()
def mixed_rows(
    layer: SelectiveLayer, which: str, keep: Bool[Tensor, "n"], mixing: Float64[Tensor, "k n"]
) -> Float[Tensor, "k e"]:
    """Return the rows of ``x_proj`` for B or C of the kept columns, mixed with all there are.

    ``W_k + Σ_j R_kj W_j``: ``mixing`` is per kept column the share of every row added to its own.
    """
    check_mixes(layer)
    weight = layer.mixer.x_proj.weight
    first = weight.shape[0] - (2 * layer.n if which == "B" else layer.n)
    rows = weight[first : first + layer.n].double()
    index = keep.nonzero().flatten().to(weight.device)
    mixed: Tensor = rows[index] + mixing.to(weight.device) @ rows
    return mixed.to(weight.dtype)


def check_mixes(layer: SelectiveLayer) -> None:
    """Raise `UnsupportedError` if a layer normalises B and C over its states (Falcon-Mamba)."""
    if layer.normalises:
        raise UnsupportedError(
            f"{layer.name} normalises B and C over the states, so rows of x_proj do not mix",
            allowed="compensation on Mamba layers",
            next_step="cut its columns without compensation",
        )
