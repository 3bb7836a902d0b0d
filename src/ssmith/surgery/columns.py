"""New rows of the projection that makes B and C, so that kept columns make up for removed ones."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from ssmith.core.errors import UnsupportedError
from ssmith.families.mamba.selective import SelectiveLayer


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
