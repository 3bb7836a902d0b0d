"""Stages that make up for what was cut: new rows of C and B, and recovery of D, h′ and y′."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from ssmith.allocate.selective import stability
from ssmith.calibrate import BRANCHES, SELECTION, Stage
from ssmith.calibrate.columns import input_products
from ssmith.calibrate.recovery import removed_contribution
from ssmith.core.layers import STATE
from ssmith.core.pattern import keep_largest
from ssmith.core.products import ColumnRefit, refit_columns, refit_residual
from ssmith.core.selective import BlockRecord, Statistics, Totals
from ssmith.criteria.selective import Scoring
from ssmith.criteria.selective.refit import PRODUCTS, column_products
from ssmith.families.mamba.selective import Branches, MixerParts, SelectiveLayer
from ssmith.surgery.columns import check_mixes, mixed_rows, shrink_
from ssmith.surgery.recovery import recover_, recovery

RIDGE = 1e-6
COMPENSATION = "compensation"
RECOVERY = "recovery"


@dataclass
class _Choice:
    """What the first stage of a compensated removal leaves for the second."""

    keep: Bool[Tensor, "n"] = field(default_factory=lambda: torch.zeros(0, dtype=torch.bool))
    mixing: Float64[Tensor, "k n"] = field(
        default_factory=lambda: torch.zeros(0, 0, dtype=torch.float64)
    )


def compensated_states(scoring: Scoring, removed: int, rows: str) -> Sequence[Stage]:
    """Return the stages that remove states of all channels and refit those that stay.

    Of the rows ``"C"`` the kept states' read-outs are refitted, in the same pass; of ``"CB"`` then
    what they take in, in a second one. The last stage writes.
    """
    choice, gather = _Choice(), scoring.gather
    both = rows == "CB"

    def collect(layer: SelectiveLayer, parts: MixerParts) -> Statistics:
        weights = layer.weights()
        found = {} if gather is None else dict(gather(parts.scan, weights, removed))
        if PRODUCTS not in found:
            found |= column_products(parts.scan, weights.out_energy)
        return found

    def apply(layer: SelectiveLayer, totals: Totals) -> BlockRecord:
        check_mixes(layer)
        weights = layer.weights()

        def chosen(sums: Statistics) -> tuple[Float64[Tensor, "n"], Bool[Tensor, "n"]]:
            scores = scoring.score(sums, weights)
            return scores, keep_largest(scores, removed)

        _, keep = chosen(totals.sums)
        refit = refit_columns(totals.sums[PRODUCTS], keep, RIDGE)
        facts: dict[str, Any] = {
            "before": layer.n, "after": int(keep.sum()), "stability": stability_of(totals, chosen),
            "refit of C": _errors(refit),
        }  # fmt: skip
        if both:
            choice.keep, choice.mixing = keep, refit.mixing
        else:
            shrink_(layer, keep, C=mixed_rows(layer, "C", keep, refit.mixing))
        return BlockRecord(layer=layer.name, stage=STATE, keep={STATE: keep}, facts=facts)

    first = Stage(
        name=STATE, collect=collect, apply=apply, whole_batch=scoring.lockstep,
        keeps=SELECTION if both else BRANCHES,
    )  # fmt: skip
    return [first, _new_inputs(choice)] if both else [first]


def _new_inputs(choice: _Choice) -> Stage:
    """Return the stage that refits the rows of B, and then shrinks the layer."""

    def collect(layer: SelectiveLayer, parts: MixerParts) -> Statistics:
        return input_products(parts.scan, choice.keep, choice.mixing, layer.weights().out_energy)

    def apply(layer: SelectiveLayer, totals: Totals) -> BlockRecord:
        sums, keep = totals.sums, choice.keep
        refit = refit_residual(
            sums["gram"], sums["right"], float(sums["energy"]), kept=int(keep.sum()), ridge=RIDGE
        )
        shrink_(
            layer,
            keep,
            B=mixed_rows(layer, "B", keep, refit.mixing),
            C=mixed_rows(layer, "C", keep, choice.mixing),
        )
        facts = {"refit of B": _errors(refit)}
        return BlockRecord(layer=layer.name, stage=COMPENSATION, facts=facts)

    return Stage(name=COMPENSATION, collect=collect, apply=apply, keeps=BRANCHES)


def recovery_stage(layer: SelectiveLayer, terms: str) -> Stage:
    """Return the stage that gives a cut layer back what D, h′ and y′ can."""
    dense = SelectiveLayer(layer.name, copy.deepcopy(layer.mixer))

    def collect(cut: SelectiveLayer, parts: MixerParts) -> Statistics:
        del cut
        if parts.scan.z is None:
            raise NotImplementedError("a mixer without a gate is not recovered")
        # No cut of states changes what flows in front of them.
        reference = dense.parts_of(Branches(parts.x, parts.scan.z), parts.valid)
        return removed_contribution(parts.scan, reference.scan)

    def apply(cut: SelectiveLayer, totals: Totals) -> BlockRecord:
        found = recovery(totals.sums, terms, RIDGE)
        recover_(cut, found)
        facts = {"terms": terms, "error": {"before": found.before, "after": found.after}}
        return BlockRecord(layer=cut.name, stage=RECOVERY, facts=facts)

    return Stage(name=RECOVERY, collect=collect, apply=apply, keeps=SELECTION)


def _errors(refit: ColumnRefit) -> dict[str, float]:
    return {"error_before": refit.before, "error_after": refit.after}


def stability_of(
    totals: Totals, chosen: Callable[[Statistics], tuple[Tensor, Tensor]]
) -> dict[str, Any] | None:
    """Return how alike the scores and choices of two halves of the data are, if there are two."""
    if totals.halves is None:
        return None
    (one, kept), (other, also) = (chosen(half) for half in totals.halves)
    return stability((one, other), (kept, also)).as_dict()
