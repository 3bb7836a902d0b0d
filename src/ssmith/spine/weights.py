"""The stages that cut weights of projections: their inputs' second moments in, new weights out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ssmith.calibrate import Stage
from ssmith.calibrate.hessian import hessians
from ssmith.core.errors import InputError, UnsupportedError
from ssmith.core.pattern import Amount, Pattern, amount_as_json
from ssmith.core.selective import BlockRecord, Statistics, Totals
from ssmith.core.words import span
from ssmith.criteria.weights import (
    OBS,
    Wanda,
    WeightCut,
    cut_depthwise,
    keep_by,
    measured_cut,
)
from ssmith.families.mamba.family import cut_
from ssmith.families.mamba.selective import MixerParts, SelectiveLayer
from ssmith.families.masks import mask_of
from ssmith.spine.choice import Weights

WEIGHT = "weight"
_CONV = "conv1d"

Shares = Mapping[tuple[str, str], Amount]
"""What each projection loses, by layer and name; the budget's own amount where one is missing."""


def weight_stages(cut: Weights, layer: SelectiveLayer, shares: Shares) -> Sequence[Stage]:
    """Return what is done to one layer's projections, in the order data flows through them.

    One stage per projection, or one for all of them where they are looked at once.
    """
    names, first, spares = list(cut.of(layer.name)), list[Stage](), cut.spares(layer.name)
    if spares:
        names.remove(_CONV)
        first.append(_whole_stage(_CONV))
    for name in _undivided(cut, layer, names):
        names.remove(name)
        first.append(_whole_stage(name, f"its rows cannot be divided for {cut.amount}"))
    if not names:
        raise InputError(
            f"{layer.name} has no projection whose rows can be divided for {cut.amount}",
            allowed="a pattern that divides them, or a share",
        )
    if spares:
        # What the layer cannot lose is refused before anything of it is cut.
        spared_amount(cut.amount, layer, names)

    def amounts(now: SelectiveLayer) -> dict[str, Amount]:
        if spares:
            # Of the sizes that cuts of states before left.
            return dict.fromkeys(names, spared_amount(cut.amount, now, names))
        if isinstance(cut.budget.sparsity, int):
            return {name: _share_of(cut.budget.sparsity, now, name) for name in names}
        return {name: shares.get((layer.name, name), cut.amount) for name in names}

    if cut.refresh == "projection":
        return first + [_stage(cut, [name], amounts) for name in names]
    return [*first, _stage(cut, names, amounts)]


def spared_amount(amount: Amount, layer: SelectiveLayer, names: Sequence[str]) -> Amount:
    """Return what the other projections lose so that with conv1d the total is as asked."""
    if isinstance(amount, Pattern):
        return amount
    rest = sum(layer.part(name).weight.numel() for name in names)
    share: float = amount * (1 + layer.part(_CONV).weight.numel() / rest)
    if share >= 1:
        raise InputError(
            f"{amount:g} of the weights with conv1d left whole",
            allowed=f"below {amount / share:.4g}",
            next_step="take the scope uniform",
        )
    return share


def _share_of(count: int, layer: SelectiveLayer, name: str) -> float:
    total: int = layer.part(name).weight.numel()
    if count >= total:
        raise InputError(
            f"{count} of {total} weights of {layer.name}.{name} are to go",
            allowed=span(1, total - 1),
            next_step="name larger targets, or give a share",
        )
    return count / total


def _undivided(cut: Weights, layer: SelectiveLayer, names: Sequence[str]) -> list[str]:
    """Return the projections whose rows a pattern does not divide."""
    pattern = cut.budget.pattern
    if pattern is None:
        return []
    return [name for name in names if layer.part(name).weight.shape[-1] % pattern.of]


def _whole_stage(name: str, why: str | None = None) -> Stage:
    """Return a stage that says that a projection stays whole, so that it counts in the receipt."""

    def apply(layer: SelectiveLayer, totals: Totals) -> BlockRecord:
        del totals
        weight = layer.part(name).weight
        facts = {
            "before": weight.numel(),
            "after": weight.numel(),
            "amount": 0.0,
            "relative_error": 0.0,
        }
        return BlockRecord(
            layer=layer.name,
            stage=WEIGHT,
            keep={layer.own_name(f"{name}.weight"): torch.ones(weight.shape, dtype=torch.bool)},
            facts={
                "before": weight.numel(),
                "after": weight.numel(),
                "weights": {name: facts},
                "whole": {} if why is None else {name: why},
            },
        )

    return Stage(name=WEIGHT, collect=None, apply=apply)


def _stage(
    cut: Weights, names: Sequence[str], amounts: Callable[[SelectiveLayer], Mapping[str, Amount]]
) -> Stage:
    def collect(layer: SelectiveLayer, parts: MixerParts) -> Statistics:
        return hessians(layer, parts, tuple(names))

    def apply(layer: SelectiveLayer, totals: Totals) -> BlockRecord:
        keep, each = {}, {}
        for name in names:
            amount = amounts(layer)[name]
            found = cut_of(cut, layer, name, totals.sums, amount)
            write_(layer, name, found.weight)
            mask = found.keep[:, None] if name == _CONV else found.keep
            cut_(layer, WEIGHT, mask, target=f"{name}.weight")
            keep[layer.own_name(f"{name}.weight")] = mask.cpu()
            each[name] = {
                "before": mask.numel(),
                "after": int(mask.sum()),
                "amount": amount_as_json(amount),
                "relative_error": found.relative_error,
            }
        facts: dict[str, Any] = {
            "before": sum(item["before"] for item in each.values()),
            "after": sum(item["after"] for item in each.values()),
            "weights": each,
        }
        return BlockRecord(layer=layer.name, stage=WEIGHT, keep=keep, facts=facts)

    return Stage(name=WEIGHT, collect=collect, apply=apply)


def cut_of(
    cut: Weights, layer: SelectiveLayer, name: str, sums: Statistics, amount: Amount
) -> WeightCut:
    """Return the cut of one projection, not yet written."""
    module: Any = layer.part(name)
    weight: Tensor = module.weight.detach()
    if not bool(mask_of(module, "weight").all()):
        raise UnsupportedError(
            f"{layer.name}.{name} has been cut before",
            allowed="projections that are dense",
            next_step="start again from the dense model",
        )
    if isinstance(amount, Pattern):
        amount.check(weight.shape[-1], f"a row of {layer.name}.{name}")
    if name != _CONV:
        return cut.criterion(weight, sums[name].to(weight.device), amount)
    return _cut_filters(cut, weight[:, 0], sums[_CONV].to(weight.device), amount)


def _cut_filters(cut: Weights, filters: Tensor, gram: Tensor, amount: Amount) -> WeightCut:
    criterion = cut.criterion
    if isinstance(criterion, OBS):
        return cut_depthwise(filters, gram, amount, damp=criterion.damp)
    scores = filters.abs() * gram.diagonal(dim1=-2, dim2=-1).clamp(min=0).sqrt()
    keep = keep_by(scores, amount, "tensor")
    if not isinstance(criterion, Wanda):
        # Neither magnitude nor chance looks at inputs, of which every filter has its own.
        identity = torch.eye(filters.shape[1], dtype=torch.float64, device=filters.device)
        keep = criterion(filters, identity, amount).keep
    return measured_cut(filters, filters, keep, gram)


@torch.no_grad()
def write_(layer: SelectiveLayer, name: str, weight: Tensor) -> None:
    """Give a projection new weights of the same shape; filters come without their middle axis."""
    own: Tensor = layer.part(name).weight
    own.copy_(weight.view_as(own))
