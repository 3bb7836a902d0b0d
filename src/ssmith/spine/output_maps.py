"""Stages that refit output maps: to what a layer gave, or to the dense model's stream."""

from __future__ import annotations

import copy
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ssmith.calibrate import Stage
from ssmith.core.selective import BlockRecord, Statistics, Totals
from ssmith.criteria.outputs import HELD, best_change, share_that_holds
from ssmith.families.mamba2.grouped import GroupedLayer, GroupedParts
from ssmith.families.parts.convolving import at_least_float32
from ssmith.spine.compensate import RECOVERY


def output_stage(layer: GroupedLayer) -> Stage:
    """Return the stage that fits a cut layer's output map to what the layer gave before.

    Both are given what reaches the layer now, behind the layers that are cut.
    """
    dense = GroupedLayer(layer.name, copy.deepcopy(layer.mixer))

    def collect(cut: GroupedLayer, parts: GroupedParts) -> Statistics:
        # Products in the data's own precision, sums in float64: exactness costs as much as a pass.
        own = at_least_float32(cut.features(parts))
        old = at_least_float32(dense.features(dense.parts(parts.hidden, parts.valid)))
        return lacking_sums(own, _lost((dense, old), (cut, own)), parts.valid)

    return Stage(
        name=RECOVERY, collect=collect, apply=lambda view, totals: _fit_(view, totals, "O")
    )


def stream_stage() -> Stage:
    """Return the stage that fits an output map to the dense model's stream behind its block.

    What cuts before did to the stream is made up for as well, as far as the map can.
    """

    def collect(view: Any, parts: Any) -> Statistics:
        return lacking_sums(at_least_float32(view.features(parts)), parts.lacking, parts.valid)

    def apply(view: Any, totals: Totals) -> BlockRecord:
        return _fit_(view, totals, "S")

    return Stage(name=RECOVERY, collect=collect, apply=apply, behind=True)


def lacking_sums(
    own: Float[Tensor, "b l e"], lacking: Float[Tensor, "b l m"], valid: Bool[Tensor, "b l"] | None
) -> Statistics:
    """Return what a map must be fitted to, summed over the steps that count.

    Products are in the precision of what the map is given.
    """
    if valid is not None:
        own, lacking = (item * valid.unsqueeze(-1) for item in (own, lacking))
    own, lacking = own.flatten(0, 1), lacking.flatten(0, 1)
    return {
        "gram": own.mT @ own,
        "lacking": lacking.to(own).mT @ own,
        "energy": lacking.square().sum(),
    }


def _fit_(view: Any, totals: Totals, terms: str) -> BlockRecord:
    """Add to an output map what gives most of what is lacking; columns that are empty stay so."""
    sums, weight = totals.sums, view.output_map.weight
    free = weight.any(0).nonzero().flatten()
    there = free.to(sums["gram"].device)
    gram, lacking = sums["gram"][there][:, there], sums["lacking"][:, there]
    energy = float(sums["energy"])
    halves = totals.halves or ()
    share = share_that_holds(
        [(half["gram"][there][:, there], half["lacking"][:, there]) for half in halves]
    )
    change = share * best_change(gram, lacking)
    after = energy - 2 * float((change * lacking).sum()) + float(((change @ gram) * change).sum())
    weight[:, free] = (weight[:, free].double() + change.to(weight.device)).to(weight.dtype)
    error = {"before": energy, "after": max(after, 0.0)}
    facts = {"terms": terms, "error": error, HELD: share}
    return BlockRecord(layer=view.name, stage=RECOVERY, facts=facts)


def _lost(
    before: tuple[GroupedLayer, Float[Tensor, "b l e"]],
    after: tuple[GroupedLayer, Float[Tensor, "b l f"]],
) -> Float[Tensor, "b l m"]:
    """Return by what the outputs of two layers differ, each with what its map is given."""
    (dense, old), (cut, own) = before, after
    maps = [layer.output_map.weight.to(own.dtype) for layer in (dense, cut)]
    if torch.equal(*maps):
        return (old - own) @ maps[0].mT
    return old @ maps[0].mT - own @ maps[1].mT
