"""Plans for units that one output map alone reads: heads, their channels, neurons, attention."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float64
from torch import Tensor, nn

from ssmith.calibrate import PassConfig, Stage
from ssmith.core.budget import Budget
from ssmith.core.errors import UnsupportedError
from ssmith.core.pattern import keep_largest
from ssmith.core.plan import Plan
from ssmith.core.progress import Progress
from ssmith.core.rows import Rows
from ssmith.core.selective import BlockRecord, Statistics, Totals
from ssmith.core.unit import Coupling
from ssmith.criteria.outputs import HELD, OutputCriterion, OutputUnits, lost, made_up
from ssmith.families import Site
from ssmith.families.mamba2.grouped import GroupedLayer
from ssmith.families.parts.convolving import at_least_float32
from ssmith.spine.compensate import stability_of
from ssmith.spine.layered import LayerCut, read_cut
from ssmith.spine.output_maps import output_stage, stream_stage
from ssmith.spine.passes import LayerPass, Masks, States, Tensors
from ssmith.spine.tables import removed_counts

USUAL = "obs"


def choose_output_cut(budget: Budget) -> LayerCut[OutputCriterion]:
    """Return what a budget asks of units of output maps."""
    return read_cut(budget, "output", usual=USUAL, of=f"{budget.unit} of these layers", fits="OS")


def plan_outputs(
    model: nn.Module,
    there: Mapping[str, Site],
    cut: LayerCut[OutputCriterion],
    rows: Rows,
    *,
    config: PassConfig,
    progress: Progress,
) -> Plan:
    """Decide which heads, channels of heads, neurons or attention groups of some layers go."""
    budget = cut.budget
    tables = {name: site.coupling(budget.unit) for name, site in there.items()}
    counts = removed_counts(tables, budget)
    places = {name: _place(site, tables[name]) for name, site in there.items()}
    owners = {place: name for name, place in places.items()}
    work = LayerPass(
        model=model, rows=rows, modules={place: model.get_submodule(place) for place in owners},
        config=config, progress=progress, what=f"pruning {budget.unit}",
    )  # fmt: skip

    def after(name: str, states: States, keep: Masks) -> Tensors:
        place = places[name]
        return _after(states[place].tensors, tables[name], keep[name], inner=place != name)

    return work.plan(
        cut,
        lambda view: _stages(cut, there[owners[view.name]], view, counts[owners[view.name]]),
        after,
    )


def _place(site: Site, table: Coupling) -> str:
    """Return the module that a pass watches: a Mamba-2 mixer, or the output map of other layers."""
    if isinstance(site.view(), GroupedLayer):
        return site.name
    if not isinstance(site.module.get_submodule(table.output), nn.Linear):
        raise UnsupportedError(
            f"{site.name}.{table.output} is no plain linear layer",
            allowed="layers whose output map is one", next_step="choose the method magnitude",
        )  # fmt: skip
    return f"{site.name}.{table.output}" if site.name else table.output


def _after(
    tensors: Mapping[str, Tensor], table: Coupling, keep: Bool[Tensor, "..."], *, inner: bool
) -> dict[str, Tensor]:
    """Return a site's tensors after the cut, from those of what the pass watched."""
    if not inner:
        return dict(tensors)
    parameter = f"{table.output}.weight"
    weight = tensors["weight"]
    stays = table.stays(parameter, 1, keep.flatten(), weight.shape[1])
    return {parameter: weight[:, stays].contiguous()}


def _stages(cut: LayerCut[OutputCriterion], site: Site, view: Any, removed: int) -> Sequence[Stage]:
    """Return what is done to one layer.

    A Mamba-2 mixer is cut in the pass, as its norm averages over what stays; what that changes is
    fitted to as well. Of other layers the columns are emptied, which is the same.
    """
    collect = partial(_sums_of, active=cut.criterion.by_activity)
    stage = Stage(name=cut.budget.unit, collect=collect, apply=partial(_cut_, cut, site, removed))
    if cut.to_stream:
        return [stage, stream_stage()]
    if isinstance(view, GroupedLayer) and cut.refits:
        return [stage, output_stage(view)]
    return [stage]


def _sums_of(view: Any, parts: Any, *, active: bool) -> Statistics:
    features = at_least_float32(view.features(parts))
    counts = torch.ones_like(features[..., :1])
    if parts.valid is not None:
        counts = parts.valid.unsqueeze(-1).to(features)
    flat = (features * counts).flatten(0, -2)
    sums = {"gram": flat.mT @ flat}
    if active:
        sizes = (view.activations(parts).double().abs() * counts).sum(1)
        sums["activity"] = (sizes / counts.sum(1).clamp(min=1)).square().sum(0)
    return sums


def _cut_(
    cut: LayerCut[OutputCriterion], site: Site, removed: int, view: Any, totals: Totals
) -> BlockRecord:
    """Choose, and write the output map; see `_stages`."""
    unit, whole = cut.budget.unit, isinstance(view, GroupedLayer)
    table = site.coupling(unit)
    linear: Any = view.module.get_submodule(table.output) if whole else view.module
    gram = totals.sums["gram"]
    weight, columns = (
        item.to(gram.device) for item in (linear.weight.detach().double(), table.columns())
    )

    units = OutputUnits(
        gram=gram,
        weight=weight,
        columns=columns,
        parts=table.per_block,
        removed=removed,
        activity=totals.sums.get("activity"),
    )

    def chosen(sums: Statistics) -> tuple[Float64[Tensor, "u"], Bool[Tensor, "u"]]:
        own = replace(units, gram=sums["gram"], activity=sums.get("activity"))
        scores = cut.criterion.scores(own)
        return scores, keep_largest(scores.view(table.per_block, -1), removed).flatten()

    keep = chosen(totals.sums)[1]
    stays = torch.ones(weight.shape[1], dtype=torch.bool, device=weight.device)
    stays[columns[~keep].flatten()] = False
    new, share = weight * stays, None
    if cut.refits:
        halves = [half["gram"] for half in totals.halves or ()]
        new, share = made_up(gram, weight, stays, halves)
    grid = keep.view(table.grid).cpu()
    facts = {
        "before": table.count, "after": int(keep.sum()),
        "error": {"before": lost(gram, weight, weight * stays), "after": lost(gram, weight, new)},
        "stability": stability_of(totals, chosen), HELD: share,
    }  # fmt: skip
    linear.weight.copy_(new)
    if whole:
        replace(site, module=view.module).cut_(table, grid, "shrink")
    return BlockRecord(layer=site.name, stage=unit, keep={unit: grid}, facts=facts)
