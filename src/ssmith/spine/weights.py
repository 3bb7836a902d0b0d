"""The stages that cut projections: their inputs' second moments in, new weights out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ssmith.calibrate.blockwise import Stage
from ssmith.calibrate.hessian import hessians, products, projection_input
from ssmith.core.errors import InputError, UnsupportedError
from ssmith.core.pattern import Amount, Pattern, amount_as_json
from ssmith.core.selective import BlockRecord, Statistics, Totals
from ssmith.criteria.weights import (
    OBS,
    Cut,
    Wanda,
    cut_depthwise,
    keep_by,
    measured_filters,
)
from ssmith.families.mamba.selective import MixerParts, SelectiveLayer
from ssmith.families.mamba.units import PROJECTIONS
from ssmith.families.masks import mask_of
from ssmith.jobs.selective.projection_config import ProjectionConfig

STAGE = "projections"
_CONV = "conv1d"
_DENSE_CONV = "conv1d across channels"

Shares = Mapping[tuple[str, str], Amount]
"""What each projection loses, by layer and name; the configured amount where one is missing."""


def projection_stages(
    config: ProjectionConfig, layer: SelectiveLayer, shares: Shares
) -> Sequence[Stage]:
    """Return what is done to one layer's projections, in the order data flows through them.

    Args:
        config: what is removed.
        layer: the layer.
        shares: what an allocation gave each projection.

    Returns:
        One stage per projection, or one for all of them where they are looked at once.
    """
    names = [name for name in PROJECTIONS if name in config.targets]
    if config.spares:
        names.remove(_CONV)
        others = spared_amount(config, layer, names)
        amounts = dict.fromkeys(names, others)
        first = [_spared_stage()]
    else:
        amounts = {name: shares.get((layer.name, name), config.amount) for name in names}
        first = []
    if config.refresh == "projection":
        return first + [_stage(config, {name: amount}) for name, amount in amounts.items()]
    return [*first, _stage(config, amounts)]


def spared_amount(config: ProjectionConfig, layer: SelectiveLayer, names: Sequence[str]) -> Amount:
    """Return what the other projections lose so that with conv1d the total is as asked.

    Args:
        config: what is removed.
        layer: the layer, for its sizes.
        names: the other projections.

    Returns:
        The amount; a pattern stays as it is.

    Raises:
        InputError: if the others would have to lose all they have.
    """
    if isinstance(config.amount, Pattern):
        return config.amount
    rest = sum(getattr(layer.mixer, name).weight.numel() for name in names)
    share: float = config.amount * (1 + layer.mixer.conv1d.weight.numel() / rest)
    if share >= 1:
        raise InputError(
            f"projections {config.amount:g} with conv1d left whole",
            allowed=f"below {config.amount / share:.4g}", next_step="use allocation uniform",
        )  # fmt: skip
    return share


def _spared_stage() -> Stage:
    """Return a stage that says that conv1d stays whole, so that it counts in the receipt."""

    def apply(layer: SelectiveLayer, totals: Totals) -> BlockRecord:
        del totals
        size = layer.mixer.conv1d.weight.numel()
        facts = {"before": size, "after": size, "amount": 0.0, "relative_error": 0.0}
        return BlockRecord(
            layer=layer.name, stage=STAGE,
            facts={"before": size, "after": size, "projections": {_CONV: facts}},
        )  # fmt: skip

    return Stage(name=STAGE, collect=None, apply=apply)


def _stage(config: ProjectionConfig, amounts: Mapping[str, Amount]) -> Stage:
    def collect(layer: SelectiveLayer, parts: MixerParts) -> Statistics:
        return moments(config, layer, parts, tuple(amounts))

    def apply(layer: SelectiveLayer, totals: Totals) -> BlockRecord:
        keep, each = {}, {}
        for name, amount in amounts.items():
            cut = cut_of(config, layer, name, totals.sums, amount)
            write_(layer, name, cut.weight)
            mask = cut.keep[:, None] if name == _CONV else cut.keep
            layer.cut_weight_(f"{name}.weight", mask)
            keep[f"{name}.weight"] = mask.cpu()
            each[name] = {
                "before": mask.numel(),
                "after": int(mask.sum()),
                "amount": amount_as_json(amount),
                "relative_error": cut.relative_error,
            }
        facts: dict[str, Any] = {
            "before": sum(item["before"] for item in each.values()),
            "after": sum(item["after"] for item in each.values()),
            "projections": each,
        }
        return BlockRecord(layer=layer.name, stage=STAGE, keep=keep, facts=facts)

    return Stage(name=STAGE, collect=collect, apply=apply)


def moments(
    config: ProjectionConfig, layer: SelectiveLayer, parts: MixerParts, names: tuple[str, ...]
) -> Statistics:
    """Return what cutting some projections needs of one batch."""
    found = hessians(layer, parts, names)
    if _CONV in names and config.activations == "released":
        found[_DENSE_CONV] = products(projection_input(parts, _CONV), parts.valid)
    return found


def cut_of(
    config: ProjectionConfig, layer: SelectiveLayer, name: str, sums: Statistics, amount: Amount
) -> Cut:
    """Return the cut of one projection, not yet written.

    Args:
        config: how it is cut.
        layer: its layer.
        name: of the projection.
        sums: what `moments` gathered.
        amount: what is to go.

    Returns:
        The cut.

    Raises:
        UnsupportedError: if the projection has been cut before.
    """
    module: Any = getattr(layer.mixer, name)
    weight: Tensor = module.weight.detach()
    if not bool(mask_of(module, "weight").all()):
        raise UnsupportedError(
            f"{layer.name}.{name} has been cut before", allowed="projections that are dense",
            next_step="start again from the dense model",
        )  # fmt: skip
    if isinstance(amount, Pattern):
        amount.check(weight.shape[-1], f"a row of {layer.name}.{name}")
    if name != _CONV:
        return config.criterion()(weight, sums[name].to(weight.device), amount)
    return _cut_filters(config, weight[:, 0], sums, amount)


def _cut_filters(
    config: ProjectionConfig, filters: Tensor, sums: Statistics, amount: Amount
) -> Cut:
    gram, criterion = sums[_CONV].to(filters.device), config.criterion()
    if isinstance(criterion, OBS) and config.activations == "released":
        across = sums[_DENSE_CONV].to(filters.device)
        dense = criterion(filters.T.contiguous(), across, amount)
        return measured_filters(filters, dense.weight.T, dense.keep.T, gram)
    if isinstance(criterion, OBS):
        return cut_depthwise(filters, gram, amount, damp=config.damp)
    scores = filters.abs() * gram.diagonal(dim1=-2, dim2=-1).clamp(min=0).sqrt()
    keep = keep_by(scores, amount, "tensor")
    if not isinstance(criterion, Wanda):
        # Neither magnitude nor chance looks at inputs, of which every filter has its own.
        identity = torch.eye(filters.shape[1], dtype=torch.float64, device=filters.device)
        keep = criterion(filters, identity, amount).keep
    return measured_filters(filters, filters, keep, gram)


@torch.no_grad()
def write_(layer: SelectiveLayer, name: str, weight: Tensor) -> None:
    """Give a projection new weights of the same shape; filters come without their middle axis."""
    own: Tensor = getattr(layer.mixer, name).weight
    own.copy_(weight.view_as(own))
