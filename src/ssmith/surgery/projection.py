"""Give a group of Mamba-2's heads fewer states in a basis of their own."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from ssmith.core.layers import STATE
from ssmith.families import Site
from ssmith.families.mamba2.family import MAMBA2, PROJECT
from ssmith.families.mamba2.grouped import GroupedLayer
from ssmith.families.parts.hooks import MAPS, PER_STATE


def cut_states_(layer: GroupedLayer, keep: Bool[Tensor, "g n"], semantics: str = "remove") -> None:
    """Remove states of each group, as many from all; see `project_` for those that are mixed."""
    site = Site(name=layer.name, module=layer.module, family=MAMBA2)
    site.cut_(site.coupling(STATE), keep, "shrink", semantics)


@torch.no_grad()
def project_(
    layer: GroupedLayer, write: Float64[Tensor, "g r n"], read: Float64[Tensor, "g r n"]
) -> Bool[Tensor, "g n"]:
    """Let the states of each group be r mixtures of those there are, by ``write`` and ``read``.

    With ``B → write·B`` and ``C → read·C`` the states become ``H·writeᵀ``; a start of the states
    and an offset of what reads them go along. A projected layer can be projected further. The mask
    keeps the first r states of each group: what a plan says of such a cut.
    """
    module, (g, r, n) = layer.mixer, write.shape
    per_state = {name: value for name in PER_STATE
                 if isinstance(value := getattr(module, name, None), Tensor)}  # fmt: skip
    old = [module._buffers.get(name) for name in MAPS]
    keep = (torch.arange(n) < r).expand(g, n)
    cut_states_(layer, keep, PROJECT)
    for name, new, before in zip(MAPS, (write, read), old, strict=True):
        now = new if before is None else new @ before.double().cpu().unflatten(0, (g, -1))
        getattr(module, name).copy_(now.flatten(0, 1))
    for name, value in per_state.items():
        by_group = value.double().cpu().unflatten(0, (g, -1))
        moved = torch.einsum("gqpn,grn->gqpr", by_group, write).flatten(0, 1)
        getattr(module, name).copy_(moved)
    return keep
