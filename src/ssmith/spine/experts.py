"""Plans for experts: what each gives where the router sends tokens, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from jaxtyping import Bool, Float64
from torch import Tensor, nn

from ssmith.calibrate import PassConfig, Stage
from ssmith.core.budget import Budget
from ssmith.core.pattern import keep_largest
from ssmith.core.plan import Plan
from ssmith.core.progress import Progress
from ssmith.core.rows import Rows
from ssmith.core.selective import BlockRecord, Statistics, Totals
from ssmith.criteria.experts import ExpertCriterion
from ssmith.families import Site
from ssmith.spine.compensate import stability_of
from ssmith.spine.layered import LayerCut, read_cut
from ssmith.spine.passes import plan_sites

USUAL = "reap"


def choose_expert_cut(budget: Budget) -> LayerCut[ExpertCriterion]:
    """Return what a budget asks of experts."""
    return read_cut(budget, "expert", usual=USUAL, of="experts", fits="")


def plan_experts(
    model: nn.Module,
    there: Mapping[str, Site],
    budget: Budget,
    rows: Rows,
    *,
    config: PassConfig,
    progress: Progress,
) -> Plan:
    """Decide which experts of some layers go; the router chooses among those that stay."""
    cut = choose_expert_cut(budget)
    return plan_sites(
        model, there, cut, lambda view, removed: _stages(cut, there[view.name], removed),
        rows=rows, config=config, progress=progress, what=f"pruning {budget.unit}",
    )  # fmt: skip


def _stages(cut: LayerCut[ExpertCriterion], site: Site, removed: int) -> Sequence[Stage]:
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
