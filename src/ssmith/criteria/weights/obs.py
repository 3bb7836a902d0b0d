"""Optimal brain surgery on projections, column by column, as SparseGPT does it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from ssmith.core.checks import check_integer, check_number
from ssmith.core.errors import NumericalError
from ssmith.core.pattern import Amount, Pattern, keep_largest, removed_counts
from ssmith.criteria.weights.cut import WeightCut, check_projection, measured_cut
from ssmith.criteria.weights.least_squares import refit_kept


@final
@dataclass(frozen=True, kw_only=True)
class OBS:
    """Remove weights by what they cost once the weights right of them make up for it.

    With ``U`` the upper Cholesky factor of ``(G + λI)⁻¹``, the score of a weight is
    ``w_j²/U_jj²``. Columns are worked off from left to right in blocks: the mask of a block is
    drawn when the block is reached, and every removed weight's error moves on to all later
    columns. A refit then gives the kept weights their best values, earlier columns included.

    Args:
        damp: λ as a share of the mean diagonal of G, > 0.
        block: columns whose mask is drawn at once, ≥ 1.
        refit: steps of conjugate gradients on the kept weights; 0 as published.

    Source: SparseGPT (arXiv 2301.00774), algorithm 1; the refit is least squares on the support.
    Differs: fractions are exact over the tensor, where the released code removes int(size·s) + 1
        of each block; inputs that are always zero lose their weights
        first and leave those they keep as they are; the factor is taken in float64.
    """

    needs: ClassVar[tuple[str, ...]] = ("gram",)

    damp: float = 0.01
    block: int = 128
    refit: int = 24

    def __post_init__(self) -> None:
        check_number("damp", self.damp, above=0)
        check_integer("block", self.block, at_least=1)
        check_integer("refit", self.refit, at_least=0)

    @property
    def label(self) -> str:
        """Name for plots and tables."""
        return "OBS" if self.refit else "OBS, as published"

    @torch.no_grad()
    def __call__(
        self, weight: Float[Tensor, "o i"], gram: Float64[Tensor, "i i"], amount: Amount
    ) -> WeightCut:
        """Cut a projection and move its other weights.

        ``gram`` is ``Σ x xᵀ`` of its inputs, along which a pattern lies.
        """
        check_projection(weight, gram, amount)
        dead = gram.diagonal() <= 0
        damped = damped_gram(gram, self.damp)
        # The rows' arithmetic is large and benign; only the factor needs float64.
        dtype = torch.float64 if weight.dtype == torch.float64 else torch.float32
        start = torch.where(dead, 0.0, weight.to(dtype))
        factor = inverse_factor(damped).to(dtype)
        moved, keep = _eliminate(start, factor, amount, self.block)
        if self.refit:
            moved = refit_kept(moved, start, keep, damped.to(dtype), steps=self.refit)
        return measured_cut(weight, torch.where(dead, weight.to(dtype), moved), keep, gram)


def damped_gram(gram: Float64[Tensor, "i i"], damp: float) -> Float64[Tensor, "i i"]:
    """Return ``G + λI`` with λ a share of the mean diagonal; the identity for an all-zero G."""
    level = damp * float(gram.diagonal().mean())
    return gram + (level if level > 0 else 1.0) * torch.eye(len(gram), dtype=gram.dtype).to(gram)


def inverse_factor(gram: Float64[Tensor, "i i"]) -> Float64[Tensor, "i i"]:
    """Return the upper triangular U with ``G⁻¹ = Uᵀ U``.

    The factor of G itself is taken from its last row upwards and inverted, which never forms
    ``G⁻¹`` and is the more accurate for it.
    """
    lower: Tensor
    lower, failed = torch.linalg.cholesky_ex(gram.flip(0, 1))
    if bool(failed):
        raise NumericalError(
            "the second moments of a projection's inputs are not positive definite",
            next_step="raise the damping, or calibrate on more text",
        )
    identity = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    inverse: Tensor = torch.linalg.solve_triangular(lower.flip(0, 1), identity, upper=True)
    return inverse


def _eliminate(
    weight: Float[Tensor, "o i"], factor: Float[Tensor, "i i"], amount: Amount, block: int
) -> tuple[Float[Tensor, "o i"], Bool[Tensor, "o i"]]:
    """Work the columns off, one block after the other."""
    if isinstance(amount, Pattern):
        block = max(block - block % amount.of, amount.of)
    # Inputs first: a column is then contiguous, and its update one rank-one product.
    rows = weight.T.clone(memory_format=torch.contiguous_format)
    keep = torch.ones_like(rows, dtype=torch.bool)
    starts = range(0, len(rows), block)
    widths = torch.tensor([min(block, len(rows) - start) for start in starts])
    counts = (
        [0] * len(widths)
        if isinstance(amount, Pattern)
        else removed_counts(amount, widths * rows.shape[1]).tolist()
    )
    for start, count in zip(starts, counts, strict=True):
        part, later = slice(start, start + block), slice(start + block, None)
        errors = _eliminate_block(rows[part], keep[part], factor[part, part], (amount, count))
        rows[later].addmm_(factor[part, later].T, errors, alpha=-1)
    return rows.T, keep.T


def _eliminate_block(
    rows: Float[Tensor, "k o"],
    keep: Bool[Tensor, "k o"],
    factor: Float[Tensor, "k k"],
    goal: tuple[Amount, int],
) -> Float[Tensor, "k o"]:
    """Work one block off in place, and return each column's error, in units of its factor."""
    amount, count = goal
    diagonal = factor.diagonal()[:, None]
    if not isinstance(amount, Pattern):
        scores = (rows / diagonal).square().T
        keep.copy_(keep_largest(scores.flatten(), count).view(scores.shape).T)
    errors = torch.zeros_like(rows)
    for column in range(len(rows)):
        if isinstance(amount, Pattern) and column % amount.of == 0:
            group = slice(column, column + amount.of)
            keep[group] = amount.mask((rows[group] / diagonal[group]).square().T).T
        errors[column] = rows[column] / diagonal[column] * ~keep[column]
        rows[column:].addr_(factor[column, column:], errors[column], alpha=-1)
        rows[column].mul_(keep[column])
    return errors
