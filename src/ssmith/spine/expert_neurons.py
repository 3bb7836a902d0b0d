"""Plans for neurons inside experts: as many go from each, by the tokens that are sent to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from ssmith.calibrate import Stage
from ssmith.core.budget import Budget
from ssmith.core.errors import InputError
from ssmith.core.pattern import keep_largest
from ssmith.core.selective import BlockRecord, Statistics, Totals
from ssmith.criteria.outputs import HELD, OutputCriterion, OutputUnits, lost, made_up
from ssmith.families import Site
from ssmith.spine.compensate import stability_of
from ssmith.spine.layered import LayerCut, read_cut
from ssmith.spine.outputs import USUAL


def choose_neuron_cut(budget: Budget) -> LayerCut[OutputCriterion]:
    """Return what a budget asks of neurons of experts."""
    cut: LayerCut[OutputCriterion] = read_cut(
        budget, "output", usual=USUAL, of="neurons of experts"
    )
    if cut.criterion.by_activity:
        raise InputError(
            f"method {cut.method} for neurons of experts", allowed="obs, output-energy",
            next_step="it is not defined where tokens are sent to a few experts only",
        )  # fmt: skip
    return cut


def neuron_stages(
    cut: LayerCut[OutputCriterion], site: Site, view: object, removed: int
) -> Sequence[Stage]:
    """Return what is done to one layer: as many neurons go from each of its experts."""
    unit = cut.budget.unit
    table = site.coupling(unit)
    experts, each = table.grid

    def collect(view: Any, parts: Any) -> Statistics:
        """With f an expert's neurons and g what a token counts in it: sums of g² f fᵀ."""
        grams = torch.zeros(experts, each, each, dtype=torch.float64)
        for number, counts, found in view.neurons(parts):
            f = found.double() * counts.double().unsqueeze(-1)
            grams[number] = (f.mT @ f).cpu()
        return {"gram": grams}

    def apply(view: Any, totals: Totals) -> BlockRecord:
        weight: Tensor = view.module.experts.down_proj
        old = weight.detach().double().cpu()

        def chosen(sums: Statistics) -> tuple[Float64[Tensor, "u"], Bool[Tensor, "u"]]:
            scores = torch.stack([
                cut.criterion.scores(
                    OutputUnits(gram=gram, weight=own, columns=torch.arange(each)[:, None],
                                parts=1, removed=removed)
                )
                for gram, own in zip(sums["gram"], old, strict=True)
            ])  # fmt: skip
            return scores.flatten(), keep_largest(scores, removed).flatten()

        keep = chosen(totals.sums)[1].view(experts, each)
        errors, shares = {"before": 0.0, "after": 0.0}, []
        for number, (gram, own, stays) in enumerate(
            zip(totals.sums["gram"], old, keep, strict=True)
        ):
            new = own * stays
            if cut.refits:
                halves = [half["gram"][number] for half in totals.halves or ()]
                new, share = made_up(gram, own, stays, halves)
                shares.append(share)
            errors["before"] += lost(gram, own, own * stays)
            errors["after"] += lost(gram, own, new)
            weight[number] = new.to(weight)
        facts = {
            "before": table.count, "after": int(keep.sum()), "error": errors,
            "stability": stability_of(totals, chosen), HELD: min(shares, default=None),
        }  # fmt: skip
        replace(site, module=view.module).cut_(table, keep, "shrink")
        return BlockRecord(layer=site.name, stage=unit, keep={unit: keep}, facts=facts)

    return [Stage(name=unit, collect=collect, apply=apply)]
