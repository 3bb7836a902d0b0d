"""Greedy backward elimination: remove, one after the other, the state whose loss costs least."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from ssmith.core.regression import factor_kept

REFRESH = 16
"""Removals between two fresh factorisations, so that rounding cannot pile up."""


@dataclass(frozen=True, kw_only=True)
class Elimination:
    """The order in which states go, per group, and what each removal costs.

    ``order`` is the place of the state removed at each step, −1 when none is left, and ``cost`` how
    much the mean squared error grows with that removal, ≥ 0, after refitting.
    """

    order: Int64[Tensor, "g n"]
    cost: Float64[Tensor, "g n"]


def eliminate(
    gram: Float64[Tensor, "g f f"],
    weight: Float64[Tensor, "g f o"],
    *,
    present: Bool[Tensor, "g n"],
    removable: Bool[Tensor, "g n"],
) -> Elimination:
    """Remove the states of every group greedily by exact cost.

    The output is ``wᵀz``. With H the inverse of the second moment of the features that are left,
    removing a state with features S and refitting the others raises the mean squared error by
    ``tr(w_Sᵀ (H_SS)⁻¹ w_S)``; then ``w ← w − H_:S (H_SS)⁻¹ w_S`` and
    ``H ← H − H_:S (H_SS)⁻¹ H_S:``. Groups go through their own orders side by side.

    ``gram`` is the second moment of the features, positive definite on present states; ``weight``
    the best weights while all of them are there. Present states that are not removable stay in the
    regression.

    Source: Optimal Brain Surgeon (Hassibi and Stork, 1993), repeated after each refit.
    Differs: whole states, each a block of real features, instead of single weights.
    """
    groups, places = present.shape
    parts = gram.shape[-1] // max(places, 1)
    alive, rows = present.clone(), torch.arange(groups)
    order = torch.full((groups, places), -1)
    cost = torch.zeros(groups, places, dtype=torch.float64)
    H, w = _fresh(gram, weight, alive, parts)
    for step in range(int((present & removable).sum(-1).max()) if present.numel() else 0):
        if step and step % REFRESH == 0:
            H, w = _fresh(gram, weight, alive, parts)
        prices = _prices(H, w, alive, parts).masked_fill(~(alive & removable), torch.inf)
        price, chosen = prices.min(dim=-1)
        going = price < torch.inf
        order[:, step] = torch.where(going, chosen, -1)
        cost[:, step] = torch.where(going, price.clamp(min=0), 0.0)
        H, w = _without(H, w, chosen, going, parts)
        alive[rows[going], chosen[going]] = False
    return Elimination(order=order, cost=cost)


def _fresh(gram: Tensor, weight: Tensor, alive: Tensor, parts: int) -> tuple[Tensor, Tensor]:
    """Return H and the refitted weights of the states that are left; 0 at the others."""
    on = alive.repeat_interleave(parts, dim=-1)
    H = torch.cholesky_inverse(factor_kept(gram, on))
    H = H * (on.unsqueeze(-1) & on.unsqueeze(-2))
    return H, H @ ((gram @ weight) * on.unsqueeze(-1))


def _prices(H: Tensor, w: Tensor, alive: Tensor, parts: int) -> Float64[Tensor, "g n"]:
    """Return what removing each state costs; 0 for those that are gone."""
    groups, places = alive.shape
    tiles = H.view(groups, places, parts, places, parts)
    blocks = tiles.diagonal(dim1=1, dim2=3).permute(0, 3, 1, 2)
    filler = torch.diag_embed((~alive).to(H.dtype).unsqueeze(-1).expand(-1, -1, parts))
    rows = w.view(groups, places, parts, -1)
    prices: Tensor = (rows * torch.linalg.solve(blocks + filler, rows)).sum(dim=(-2, -1))
    return prices


def _without(
    H: Tensor, w: Tensor, chosen: Tensor, going: Tensor, parts: int
) -> tuple[Tensor, Tensor]:
    """Return H and w once the chosen place of each group is gone, where one is going."""
    index = chosen.unsqueeze(-1) * parts + torch.arange(parts)
    columns = H.gather(2, index.unsqueeze(1).expand(-1, H.shape[1], -1))
    block = columns.gather(1, index.unsqueeze(-1).expand(-1, -1, parts))
    goes = going.view(-1, 1, 1)
    safe = torch.where(goes, block, torch.eye(parts, dtype=H.dtype))
    gain = torch.linalg.solve(safe, columns.mT).mT * goes
    loss = w.gather(1, index.unsqueeze(-1).expand(-1, -1, w.shape[-1]))
    stays = (~going).to(H.dtype).unsqueeze(-1).expand(-1, parts)
    # Exact zeros where the state was, not what rounding left there.
    on = torch.ones(H.shape[:2], dtype=H.dtype).scatter(1, index, stays)
    H = (H - gain @ columns.mT) * on.unsqueeze(-1) * on.unsqueeze(-2)
    return H, (w - gain @ loss) * on.unsqueeze(-1)
