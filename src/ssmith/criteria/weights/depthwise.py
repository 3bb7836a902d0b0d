"""Exact cuts of depthwise convolutions: every channel's taps, with the best values of the rest."""

from __future__ import annotations

from itertools import combinations
from typing import Literal

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from ssmith.core.convex import hull_slopes
from ssmith.core.errors import InputError, UnsupportedError
from ssmith.core.pattern import Amount, Pattern, removed_counts
from ssmith.criteria.weights.cut import WeightCut, check_amount, measured_cut

# 2^k subsets are tried in every channel.
LARGEST_KERNEL = 10

Update = Literal["refit", "none"]


@torch.no_grad()
def cut_depthwise(
    weight: Float[Tensor, "e k"],
    gram: Float64[Tensor, "e k k"],
    amount: Amount,
    *,
    damp: float = 0.01,
    update: Update = "refit",
) -> WeightCut:
    """Remove taps by what they cost exactly; no channel makes up for another.

    For every channel and every number of taps the best set of all 2^k is found; a budget over all
    channels is then spent where the cost per tap is lowest, on the convex hull of each channel's
    costs. Taps that are spent within a hull's segment are taken one by one.

    ``gram`` is ``Σ x xᵀ`` of each channel's lagged inputs, in the order of the taps; ``damp`` a
    ridge as a share of each channel's mean diagonal, > 0; ``update`` gives the kept taps their best
    values, or leaves them as they are.

    Source: optimal brain surgeon (Hassibi and Stork, 1993), all sets of taps in place of one.
    Differs: SparseSSM's released code treats the filters as one dense k×e matrix, which lets
        channels compensate one another although no filter sees another's input.
    """
    _check(weight, gram, amount)
    level = damp * gram.diagonal(dim1=-2, dim2=-1).mean(-1)
    level = torch.where(level > 0, level, 1.0)
    damped = gram + torch.diag_embed(level[:, None].expand(weight.shape))
    target = weight.double()
    table = _subset_costs(target, damped, update)
    keep = _choose(table, weight.shape, amount).to(weight.device)
    fitted = _values(target, damped, keep) if update == "refit" else target * keep
    return measured_cut(weight, fitted, keep, gram)


def _check(weight: Tensor, gram: Tensor, amount: Amount) -> None:
    e, k = weight.shape
    if gram.shape != (e, k, k):
        raise InputError(f"a gram of shape {tuple(gram.shape)}", allowed=f"({e}, {k}, {k})")
    check_amount(amount, k, "a filter")
    if k > LARGEST_KERNEL:
        raise UnsupportedError(
            f"a convolution of {k} taps", allowed=f"up to {LARGEST_KERNEL}",
            next_step="leave conv1d out of the projections that are cut",
        )  # fmt: skip


def _values(
    target: Float64[Tensor, "e k"], gram: Float64[Tensor, "e k k"], keep: Bool[Tensor, "e k"]
) -> Float64[Tensor, "e k"]:
    """Return each channel's best values on its kept taps."""
    both = keep[:, :, None] & keep[:, None, :]
    part = gram * both + torch.diag_embed((~keep).to(gram.dtype))
    wanted = (gram @ target[:, :, None]) * keep[:, :, None]
    values: Tensor = torch.linalg.solve(part, wanted).squeeze(-1) * keep
    return values


def _subset_costs(
    target: Float64[Tensor, "e k"], gram: Float64[Tensor, "e k k"], update: Update
) -> list[tuple[Float64[Tensor, "e"], Bool[Tensor, "e k"]]]:
    """Return, for 0 … k taps removed, each channel's lowest cost and the set that has it."""
    e, k = target.shape
    table = []
    for removed in range(k + 1):
        best = target.new_full((e,), torch.inf)
        chosen = torch.ones(e, k, dtype=torch.bool, device=target.device)
        for taps in combinations(range(k), removed):
            keep = torch.ones(k, dtype=torch.bool, device=target.device)
            keep[list(taps)] = False
            kept = keep.expand(e, k)
            values = _values(target, gram, kept) if update == "refit" else target * kept
            change = values - target
            cost = torch.einsum("ek,ekj,ej->e", change, gram, change)
            better = cost < best
            best = torch.where(better, cost, best)
            chosen = torch.where(better[:, None], kept, chosen)
        table.append((best, chosen))
    return table


def _choose(
    table: list[tuple[Float64[Tensor, "e"], Bool[Tensor, "e k"]]],
    shape: torch.Size,
    amount: Amount,
) -> Bool[Tensor, "e k"]:
    if isinstance(amount, Pattern):
        return _choose_pattern(table, shape, amount)
    budget = int(removed_counts(amount, torch.tensor([shape.numel()])))
    costs = torch.stack([cost for cost, _ in table], dim=1).cpu()
    marginal = hull_slopes(costs, torch.arange(costs.shape[1], dtype=torch.float64))
    order = marginal.flatten().argsort(stable=True)[:budget]
    removed = torch.bincount(order // shape[1], minlength=shape[0])
    sets = torch.stack([chosen for _, chosen in table], dim=1).cpu()
    return sets[torch.arange(shape[0]), removed]


def _choose_pattern(
    table: list[tuple[Float64[Tensor, "e"], Bool[Tensor, "e k"]]],
    shape: torch.Size,
    pattern: Pattern,
) -> Bool[Tensor, "e k"]:
    """Return each channel's best set where one group spans the filter."""
    if shape[1] != pattern.of:
        raise UnsupportedError(
            f"a pattern {pattern} on filters of {shape[1]} taps", allowed=f"N:{shape[1]}",
            next_step="give a fraction for conv1d, or leave it out",
        )  # fmt: skip
    return table[pattern.of - pattern.keep][1]
