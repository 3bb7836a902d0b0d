"""Plans for the states of Mamba-2's groups: one pass over data, layer by layer behind those cut."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from ssmith.calibrate import Stage
from ssmith.calibrate.grouped import sample_states
from ssmith.calibrate.shards import added
from ssmith.core.budget import AUTO, Budget
from ssmith.core.errors import InputError
from ssmith.core.layers import STATE
from ssmith.core.pattern import keep_largest
from ssmith.core.selective import BlockRecord, Statistics, Totals
from ssmith.criteria.grouped import BalancedGroups, GroupCriterion, StateScores
from ssmith.families import Site
from ssmith.families.mamba2.grouped import GroupedLayer, GroupedParts
from ssmith.spine.compensate import stability_of
from ssmith.spine.layered import LayerCut, read_cut
from ssmith.spine.output_maps import output_stage, stream_stage
from ssmith.spine.reading import bars_reading, reading_stage
from ssmith.surgery.projection import cut_states_, project_

OF_GROUPS = (STATE,)
"""Units of Mamba-2's groups that methods with data know."""
USUAL = "gram-greedy"
"""The best that stock code opens."""
_STEPS = "steps"


def choose_cut(budget: Budget) -> LayerCut[GroupCriterion]:
    """Return what a budget asks of the states of groups."""
    cut = read_cut(
        budget, "grouped", usual=USUAL, of=f"{STATE} of Mamba-2's groups", fits="COS",
        by_default="CO",
    )  # fmt: skip
    if "C" in cut.terms and cut.semantics != "remove":
        raise InputError(
            f"compensate is {budget.compensate!r} for {cut.method}", allowed="auto, none, O or S",
            next_step="what reads projected states is part of the projection",
        )  # fmt: skip
    return cut


def for_layers(cut: LayerCut[GroupCriterion], layers: Iterable[Any]) -> LayerCut[GroupCriterion]:
    """Return a cut without a refit of reading rows that nobody named and one of the layers bars."""
    if cut.budget.compensate == AUTO and any(map(bars_reading, layers)):
        return replace(cut, terms=cut.terms.replace("C", ""))
    return cut


def group_stages(
    cut: LayerCut[GroupCriterion], site: Site, layer: GroupedLayer, removed: int
) -> Sequence[Stage]:
    """Return what is done to one layer: its states, then its output map."""
    kept: list[Bool[Tensor, "g n"]] = []
    steps: list[int] = []

    def collect(view: GroupedLayer, parts: GroupedParts) -> Statistics:
        whole = parts.x.shape[0] * parts.x.shape[1]
        count = torch.tensor(whole) if parts.valid is None else parts.valid.sum()
        return _gathered(cut.criterion, view, parts) | {_STEPS: count}

    def apply(view: GroupedLayer, totals: Totals) -> BlockRecord:
        record = _cut_(cut.criterion, view, totals, removed)
        kept.append(record.keep[STATE])
        steps.append(int(totals.sums[_STEPS]))
        return record

    stages = [Stage(name=STATE, collect=collect, apply=apply)]
    if "C" in cut.terms:
        stages.append(reading_stage(layer, lambda: kept[-1], lambda: steps[-1]))
    if cut.refits:
        stages.append(stream_stage() if cut.to_stream else output_stage(layer))
    return stages


def _gathered(criterion: GroupCriterion, layer: GroupedLayer, parts: GroupedParts) -> Statistics:
    sums: Statistics | None = None
    for sample in sample_states(layer, parts, criterion.stride):
        sums = added(sums, criterion.gather(sample))
    return sums or {}


def _cut_(
    criterion: GroupCriterion, layer: GroupedLayer, totals: Totals, removed: int
) -> BlockRecord:
    before = layer.g * layer.n
    if isinstance(criterion, BalancedGroups):
        keep, found = _project_(criterion, layer, totals, layer.n - removed)
    elif isinstance(criterion, StateScores):
        keep, found = _remove_(criterion, layer, totals, removed)
    else:
        raise NotImplementedError(f"{type(criterion).__name__} neither scores nor projects")
    facts = {"before": before, "after": before - layer.g * removed, **found}
    return BlockRecord(layer=layer.name, stage=STATE, keep={STATE: keep}, facts=facts)


def _project_(
    criterion: BalancedGroups, layer: GroupedLayer, totals: Totals, kept: int
) -> tuple[Bool[Tensor, "g n"], dict[str, Any]]:
    basis = criterion.basis(totals.sums, kept)
    facts = {"energy kept": basis.kept}
    if totals.halves is not None:
        facts["distance of halves"] = _distance(criterion, totals.halves, kept)
    return project_(layer, basis.write, basis.read), facts


def _remove_(
    criterion: StateScores, layer: GroupedLayer, totals: Totals, removed: int
) -> tuple[Bool[Tensor, "g n"], dict[str, Any]]:
    def chosen(sums: Statistics) -> tuple[Float64[Tensor, "g n"], Bool[Tensor, "g n"]]:
        scores = criterion.scores(sums)
        return scores, keep_largest(scores, removed)

    keep = chosen(totals.sums)[1]
    cut_states_(layer, keep)
    return keep, {"stability": stability_of(totals, chosen)}


def _distance(criterion: BalancedGroups, halves: tuple[Statistics, Statistics], kept: int) -> float:
    """Return how far apart the projections are that two halves of the data lead to.

    ``‖Π_a − Π_b‖ / √(2r)``: 0 where they are the same, 1 where they share no direction.
    """
    one, other = (criterion.basis(half, kept) for half in halves)
    gap = one.write.mT @ one.read - other.write.mT @ other.read
    return float((gap.square().sum() / (2 * kept * len(gap))).sqrt())
