"""Columns by what their removal costs once the read-outs of the others are refitted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float64
from torch import Tensor
from torch.nn import functional

from ssmith.core.checks import check_number
from ssmith.core.errors import UnsupportedError
from ssmith.core.products import elimination_costs
from ssmith.core.selective import LayerWeights, Statistics
from ssmith.criteria.selective.energies import OutputEnergy
from ssmith.criteria.selective.protocol import Scoring
from ssmith.ops.precision import widened
from ssmith.ops.selective_scan import ScanInputs
from ssmith.ops.selective_scan.chunked import CHUNK, chunk_states
from ssmith.ops.selective_scan.reference import step_sizes

LARGEST_STATE = 64
"""The Gram of all products has n⁴ entries: 128 MiB here."""
PRODUCTS = "products"


@dataclass(frozen=True, kw_only=True)
class RefitGreedy:
    """Remove, again and again, the column that costs least once the others make up for it.

    The others may be read out by any mix of the rows of C (see `core.products`), so a column that
    the rest can imitate is cheap however much it carries. A score is the largest step, up to its
    column, by which the squared error of the layer's output rises after each refit. Entries of
    A_log are scored by `OutputEnergy`.

    Args:
        ridge: noise added to every feature as a share of its energy, > 0.

    Source: optimal brain surgeon (Hassibi and Stork, 1993) on columns, weights
        ``SiLU(z)²·‖W_out[:, e]‖²``.
    Differs: from structured SparseSSM (arXiv 2506.09613), which has neither the read-out in its
        objective nor any compensation. Scores hold only if the refit is done (``compensate``).
    """

    label: ClassVar[str] = "Greedy after refit"

    ridge: float = 1e-6

    def __post_init__(self) -> None:
        check_number("ridge", self.ridge, above=0)

    @property
    def entries(self) -> Scoring:
        """How entries of A_log are scored: as `OutputEnergy` does."""
        return OutputEnergy().entries

    @property
    def columns(self) -> Scoring:
        """How state columns are scored: on the Gram of all products C_j h_k."""
        return Scoring(
            gather=lambda scan, weights, removed: column_products(scan, weights.out_energy),
            score=self._steps,
            of_output=True,
        )

    def _steps(self, sums: Statistics, weights: LayerWeights) -> Float64[Tensor, "n"]:
        del weights
        total, order = elimination_costs(sums[PRODUCTS], self.ridge).sort(stable=True)
        steps = total.diff(prepend=total.new_zeros(1)).cummax(0).values
        return torch.empty_like(steps).scatter_(0, order, steps)


@torch.no_grad()
def column_products(scan: ScanInputs, out_energy: Float64[Tensor, "e"]) -> Statistics:
    """Return ``Σ SiLU(z)²·ω·(C_j h_k)(C_i h_m)`` over channels, valid steps and windows.

    For every step the products factor into ``Σ_e ω g² h_k h_m`` and ``C_j C_i``, so the cost is
    that of n² numbers per channel and n⁴ per step, not n⁴ per channel.

    ``out_energy`` is ω, ‖W_out[:, e]‖² of each channel; the result has rows k·n + j.
    """
    wide = widened(scan)
    n = wide.A.shape[1]
    if n > LARGEST_STATE:
        raise UnsupportedError(
            f"a refit of {n} state columns", allowed=f"up to {LARGEST_STATE}",
            next_step="choose columns by output-energy, without compensation",
        )  # fmt: skip
    dt, weight = step_sizes(wide), gate_weights(wide, out_energy).sqrt()
    h = wide.x.new_zeros(wide.x.shape[0], *wide.A.shape) if wide.h0 is None else wide.h0
    total = torch.zeros(n * n, n * n, dtype=torch.float64, device=wide.A.device)
    for start in range(0, wide.x.shape[1], CHUNK):
        part = slice(start, start + CHUNK)
        _, states = chunk_states(wide.x[:, part], dt[:, part], wide.A, wide.B[:, part], h)
        h = states[-1].clone()
        seen = (states * weight[:, part].transpose(0, 1)[..., None]).flatten(0, 1)
        C = wide.C[:, part].transpose(0, 1).flatten(0, 1)
        of_states = (seen.mT @ seen).flatten(1)
        of_C = (C[:, :, None] * C[:, None, :]).flatten(1)
        total += (of_states.T @ of_C).double()
    found = total.view(n, n, n, n).permute(0, 2, 1, 3).reshape(n * n, n * n)
    return {PRODUCTS: found}


def gate_weights(
    scan: ScanInputs, out_energy: Float64[Tensor, "e"] | None
) -> Float64[Tensor, "b l e"] | Tensor:
    """Return what a unit of each channel's ungated output weighs: ``ω·SiLU(z)²``, 0 at padding."""
    weight = torch.ones_like(scan.x)
    if scan.z is not None:
        weight = functional.silu(scan.z).square().to(weight)
    if out_energy is not None:
        weight = weight * out_energy.to(weight)
    return weight if scan.valid is None else weight * scan.valid[..., None]
