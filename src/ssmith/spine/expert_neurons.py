"""Plans for neurons inside experts: as many go from each, by the tokens that are sent to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Bool, Float64
from torch import Tensor, nn

from ssmith.calibrate import PassConfig, Stage
from ssmith.core.budget import Budget
from ssmith.core.errors import InputError
from ssmith.core.pattern import keep_largest
from ssmith.core.plan import Plan
from ssmith.core.progress import Progress
from ssmith.core.rows import Rows
from ssmith.core.selective import BlockRecord, Statistics, Totals
from ssmith.criteria.outputs import OutputCriterion, OutputUnits, lost, made_up
from ssmith.families import Site
from ssmith.spine.compensate import stability_of
from ssmith.spine.layered import LayerCut, read_cut
from ssmith.spine.outputs import USUAL
from ssmith.spine.passes import plan_sites


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


def plan_expert_neurons(
    model: nn.Module,
    there: Mapping[str, Site],
    budget: Budget,
    rows: Rows,
    *,
    config: PassConfig,
    progress: Progress,
) -> Plan:
    """Decide which neurons go from the experts of some layers."""
    cut = choose_neuron_cut(budget)
    return plan_sites(
        model, there, cut, lambda view, removed: _stages(cut, there[view.name], removed),
        rows=rows, config=config, progress=progress, what=f"pruning {budget.unit}",
    )  # fmt: skip


def _stages(cut: LayerCut[OutputCriterion], site: Site, removed: int) -> Sequence[Stage]:
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
        errors = {"before": 0.0, "after": 0.0}
        for number, (gram, own, stays) in enumerate(
            zip(totals.sums["gram"], old, keep, strict=True)
        ):
            new = made_up(gram, own, stays) if cut.refits else own * stays
            errors["before"] += lost(gram, own, own * stays)
            errors["after"] += lost(gram, own, new)
            weight[number] = new.to(weight)
        facts = {
            "before": table.count, "after": int(keep.sum()), "error": errors,
            "stability": stability_of(totals, chosen),
        }  # fmt: skip
        replace(site, module=view.module).cut_(table, keep, "shrink")
        return BlockRecord(layer=site.name, stage=unit, keep={unit: keep}, facts=facts)

    return [Stage(name=unit, collect=collect, apply=apply)]
