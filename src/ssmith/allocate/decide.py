"""Scores and a budget become a cut."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool
from torch import Tensor

from ssmith.allocate.pool import LayerPool, pools_of
from ssmith.allocate.ranking import keep_over_layers, keep_within_layers
from ssmith.core.budget import Budget
from ssmith.core.errors import InputError, PlanError
from ssmith.core.findings import Finding
from ssmith.core.plan import Cut
from ssmith.core.scores import Scores


def allocate(scores: Scores, budget: Budget) -> tuple[Cut, tuple[Finding, ...]]:
    """Decide which units stay.

    The budget names the end state: of ``total`` units in all grids, ``K = total −
    budget.removed_of(total)`` stay. Units that a mask has already switched off count in ``total``
    as removed and stay off,
    so planning the same budget again on a masked model removes nothing more. If the mask has
    already removed more than asked, everything present stays and a finding says so.

    Within K, protected units come first, then the best ``min_per_layer`` of every layer (all of
    them where it has fewer), then the rest in descending score. With ``pool="model"`` one
    threshold is drawn over all layers, equal scores in order of layer and index. With
    ``pool="layer"`` each layer keeps its share of K by largest remainder, equal remainders in
    order of layer. ``ties="keep"`` also keeps every unit that ties with the threshold.

    Returns the cut, and what was excepted. Its threshold is the smallest score that was kept by
    rank, where one global threshold was drawn. Protected units and floors that need more than the
    budget keeps are a `PlanError`.
    """
    _check(scores, budget)
    pools = pools_of(scores, budget.min_per_layer)
    total = sum(pool.size for pool in pools)
    present = sum(pool.available for pool in pools)
    wanted = total - budget.removed_of(total)
    kept = min(wanted, present)
    _check_forced(pools, kept, total, budget)
    threshold: float | None = None
    if scores.pool == "model":
        masks, threshold = keep_over_layers(pools, kept, ties=budget.ties)
    else:
        masks = keep_within_layers(pools, kept, ties=budget.ties)
    keep = {
        pool.layer: mask.reshape(scores.values[pool.layer].shape)
        for pool, mask in zip(pools, masks, strict=True)
    }
    cut = Cut(
        unit=scores.unit,
        keep=keep,
        method=scores.criterion,
        budget=budget.as_dict(),
        threshold=threshold,
    )
    return cut, scores.findings + _findings(pools, keep, wanted, present, budget)


def _check(scores: Scores, budget: Budget) -> None:
    if scores.unit != budget.unit:
        raise InputError(f"scores are of {scores.unit!r}", allowed=f"scores of {budget.unit!r}")
    if not sum(values.numel() for values in scores.values.values()):
        raise InputError("there is no unit to allocate", next_step="score a layer with states")
    for layer, values in scores.values.items():
        bad = int((~torch.isfinite(values)).sum())
        if bad:
            raise InputError(f"layer {layer}: {bad} scores are not finite", allowed="finite scores")


def _check_forced(pools: list[LayerPool], kept: int, total: int, budget: Budget) -> None:
    forced = sum(pool.forced for pool in pools)
    if forced <= kept:
        return
    protected = sum(pool.protected_count for pool in pools)
    # Rounded down, so that the fraction named is one that works.
    most = math.floor(1e4 * (1.0 - forced / total)) / 1e4
    raise PlanError(
        f"removing {budget.sparsity} of {total} units keeps {kept}, but {protected} are protected "
        f"and with a floor of {budget.min_per_layer} per layer {forced} must stay",
        allowed=f"at most {most:.4f} removed",
        next_step="lower the sparsity or the floor, or repair the unstable states",
    )


def _findings(
    pools: list[LayerPool],
    keep: dict[str, Bool[Tensor, "..."]],
    wanted: int,
    present: int,
    budget: Budget,
) -> tuple[Finding, ...]:
    found = []
    if present < wanted:
        found.append(
            Finding(
                layer="",
                kind="already-masked",
                message=f"the budget keeps {wanted} units but a mask has left only {present}; "
                "nothing more is removed",
            )
        )
    for pool in pools:
        if 0 < pool.available < budget.min_per_layer:
            found.append(
                Finding(
                    layer=pool.layer,
                    kind="below-floor",
                    message=f"layer {pool.layer} has only {pool.available} units, fewer than the "
                    f"floor of {budget.min_per_layer}; all are kept",
                )
            )
        if pool.available and not bool(keep[pool.layer].any()):
            found.append(
                Finding(
                    layer=pool.layer,
                    kind="emptied",
                    message=f"layer {pool.layer} keeps none of its {pool.available} units; "
                    "min_per_layer=1 would keep its best",
                )
            )
    return tuple(found)
