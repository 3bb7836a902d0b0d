"""Columns and what can stand in for them: least squares over products of read-out and state.

The output of a selective layer's states is ``Σ_n C_n h_n``. A kept state k may be read out by any
mix of the C there are, ``C_k + Σ_j R_kj C_j``, at no cost: the mix goes into the rows of the
projection that makes C. So the features are ``C_j h_k`` for kept k and all j, and their Gram over
channels and steps tells what every set of columns costs, and the best R for it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from ssmith.core.errors import InputError, NumericalError


@dataclass(frozen=True, kw_only=True)
class ColumnRefit:
    """How kept columns make up for removed ones.

    Args:
        mixing: R, per kept column the share of every C added to its own.
        before: squared output error of the removal alone, over the data it was fitted to.
        after: the same with R.
    """

    mixing: Float64[Tensor, "k n"]
    before: float
    after: float


def refit_columns(
    gram: Float64[Tensor, "f f"], keep: Bool[Tensor, "n"], ridge: float
) -> ColumnRefit:
    """Return the best mix of C for each kept column.

    ``gram`` is ``Σ (C_j h_k)(C_i h_m)``, rows k·n + j, weighted as the output is. The ridge is
    noise added to every feature as a share of its energy, > 0; it pulls R to 0. The error is never
    larger with the mix.
    """
    n = _columns(gram, keep)
    steady, scale = _steadied(gram, ridge)
    own = _own(gram, n)
    kept = keep.repeat_interleave(n)
    wanted = steady[kept][:, ~kept] @ own[~kept]
    change = torch.cholesky_solve(wanted[:, None], _factor(steady[kept][:, kept]))[:, 0]
    difference = torch.zeros_like(own)
    difference[~kept] = -own[~kept] / scale[~kept]
    before = float(difference @ gram @ difference)
    difference[kept] = change / scale[kept]
    return ColumnRefit(
        mixing=(change / scale[kept]).view(-1, n),
        before=max(before, 0.0),
        after=max(float(difference @ gram @ difference), 0.0),
    )


def refit_residual(
    gram: Float64[Tensor, "f f"],
    right: Float64[Tensor, "f"],
    energy: float,
    *,
    kept: int,
    ridge: float,
) -> ColumnRefit:
    """Return the best mix for each kept column, towards what the output still lacks.

    ``gram`` is over products of the features, rows k·n + j with k counting the ``kept`` columns;
    ``right`` their products with what is lacking, and ``energy`` its energy.
    """
    steady, scale = _steadied(gram, ridge)
    change = torch.cholesky_solve((right / scale)[:, None], _factor(steady))[:, 0] / scale
    after = energy - 2 * float(change @ right) + float(change @ gram @ change)
    return ColumnRefit(mixing=change.view(kept, -1), before=energy, after=max(after, 0.0))


def elimination_costs(gram: Float64[Tensor, "f f"], ridge: float) -> Float64[Tensor, "n"]:
    """Remove columns one by one, each time the one that costs least once the rest is refitted.

    Returns per column the squared error, after refitting, with it and all before it removed; the
    last one's is the whole output. Gram and ridge are as of `refit_columns`.

    Source: optimal brain surgeon (Hassibi and Stork, 1993) on blocks of features.
    Differs: errors are those of the refit from scratch; only the block downdates are shared.
    """
    n = _columns(gram, None)
    steady, _ = _steadied(gram, ridge)
    weight = _own(gram, n)
    inverse = torch.cholesky_inverse(_factor(steady))
    costs = torch.full((n,), torch.nan, dtype=gram.dtype, device=gram.device)
    left, spent = list(range(n)), 0.0
    while left:
        blocks = torch.stack([inverse[_block(k, n), _block(k, n)] for k in left])
        weights = torch.stack([weight[_block(k, n)] for k in left])
        solved = torch.linalg.solve(blocks, weights[..., None]).squeeze(-1)
        added = (weights * solved).sum(1)
        pick = int(added.argmin())
        spent += max(float(added[pick]), 0.0)
        column = left.pop(pick)
        costs[column] = spent
        part = _block(column, n)
        across = inverse[:, part]
        weight = weight - across @ solved[pick]
        weight[part] = 0.0
        inverse = inverse - across @ torch.linalg.solve(blocks[pick], across.T)
    return costs


def _own(gram: Float64[Tensor, "f f"], n: int) -> Float64[Tensor, "f"]:
    """Return the layer's own weights in features of energy one: C_k h_k has its feature's size."""
    diagonal = torch.eye(n, dtype=gram.dtype, device=gram.device).flatten()
    return diagonal * gram.diagonal().clamp(min=0).sqrt()


def _block(column: int, n: int) -> slice:
    return slice(column * n, (column + 1) * n)


def _columns(gram: Tensor, keep: Tensor | None) -> int:
    n = math.isqrt(len(gram))
    fits = gram.shape == (n * n, n * n) and (keep is None or keep.shape == (n,))
    if not fits or (keep is not None and not bool(keep.any())):
        raise InputError(
            f"a gram of shape {tuple(gram.shape)}"
            + ("" if keep is None else f" and {int(keep.sum())} of {len(keep)} columns kept"),
            allowed="(n², n²), with at least one of n columns kept",
        )
    return n


def _steadied(
    gram: Float64[Tensor, "f f"], ridge: float
) -> tuple[Float64[Tensor, "f f"], Float64[Tensor, "f"]]:
    """Return the Gram in features of energy one with its ridge, and the features' sizes."""
    energy = gram.diagonal().clamp(min=0)
    scale = torch.where(energy > 0, energy.sqrt(), 1.0)
    scaled = gram / scale / scale[:, None]
    # A feature that is always zero becomes one of its own, which nothing needs.
    extra = torch.where(energy > 0, ridge, 1.0)
    return scaled + torch.diag(extra), scale


def _factor(gram: Float64[Tensor, "f f"]) -> Float64[Tensor, "f f"]:
    factor: Tensor
    factor, failed = torch.linalg.cholesky_ex(gram)
    if bool(failed):
        raise NumericalError(
            "the second moments of read-outs and states are not positive definite",
            next_step="raise the ridge, or calibrate on more text",
        )
    return factor
