"""Plans for experts: what each gives where the router sends tokens, layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from jaxtyping import Bool, Float64
from torch import Tensor

from ssmith.calibrate import Stage
from ssmith.core.budget import Budget
from ssmith.core.pattern import keep_largest
from ssmith.core.selective import BlockRecord, Statistics, Totals
from ssmith.criteria.experts import ExpertCriterion
from ssmith.families import Site
from ssmith.spine.compensate import stability_of
from ssmith.spine.layered import LayerCut, read_cut

USUAL = "reap"


def choose_expert_cut(budget: Budget) -> LayerCut[ExpertCriterion]:
    """Return what a budget asks of experts."""
    return read_cut(budget, "expert", usual=USUAL, of="experts", fits="")


def expert_stages(
    cut: LayerCut[ExpertCriterion], site: Site, view: object, removed: int
) -> Sequence[Stage]:
    """Return what is done to one layer; the router chooses among the experts that stay."""
    unit, criterion = cut.budget.unit, cut.criterion
    table = site.coupling(unit)

    def apply(view: Any, totals: Totals) -> BlockRecord:
        def chosen(sums: Statistics) -> tuple[Float64[Tensor, "e"], Bool[Tensor, "e"]]:
            scores = criterion.scores(sums)
            return scores, keep_largest(scores.view(table.per_block, -1), removed).flatten()

        keep = chosen(totals.sums)[1].cpu()
        count = totals.sums["count"].cpu()
        facts = {
            "before": table.count, "after": int(keep.sum()),
            "use kept": float(count[keep].sum() / count.sum()),
            "stability": stability_of(totals, chosen),
        }  # fmt: skip
        replace(site, module=view.module).cut_(table, keep.view(table.grid))
        return BlockRecord(layer=site.name, stage=unit, keep={unit: keep}, facts=facts)

    return [
        Stage(
            name=unit, collect=lambda view, parts: criterion.gather(view.routed(parts)), apply=apply
        )
    ]
