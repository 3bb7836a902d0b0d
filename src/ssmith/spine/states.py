"""The stages that cut states and entries of selective layers, and what each one decides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor

from ssmith.allocate.selective import keep_columns, keep_entries, stability
from ssmith.calibrate import BRANCHES, SELECTION, Stage
from ssmith.core.layers import STATE
from ssmith.core.pattern import Pattern, amount_as_json
from ssmith.core.selective import ENTRY, BlockRecord, Statistics, Totals
from ssmith.core.settings import typed
from ssmith.criteria.selective import SelectiveCriterion
from ssmith.families.mamba.family import cut_
from ssmith.families.mamba.selective import MixerParts, SelectiveLayer
from ssmith.spine.choice import Choice, States
from ssmith.spine.compensate import compensated_states, recovery_stage
from ssmith.spine.weights import Shares, weight_stages

_STREAM, _STEPS = "stream energy", "stream steps"


@dataclass(frozen=True, kw_only=True)
class _Counted:
    """`Counts` in a file."""

    states: dict[str, int]
    entries: dict[str, int]
    shares: tuple[tuple[str, str, int | float | str], ...]


@dataclass(frozen=True, kw_only=True)
class Counts:
    """What each layer loses.

    Args:
        states: how many states; none where a layer is missing.
        entries: how many entries of A_log; none where a layer is missing.
        shares: what a projection loses; the budget's own amount where it is missing.
    """

    states: Mapping[str, int] = field(default_factory=dict)
    entries: Mapping[str, int] = field(default_factory=dict)
    shares: Shares = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return a JSON-ready dict."""
        return {
            "states": dict(self.states),
            "entries": dict(self.entries),
            "shares": [
                [*place, amount_as_json(amount)] for place, amount in sorted(self.shares.items())
            ],
        }

    @classmethod
    def from_json(cls, content: Any, where: str) -> Counts:
        """Read what `as_json` returned."""
        there = typed(_Counted, content, where=where, next_step="delete it to measure again")
        return cls(
            states=there.states,
            entries=there.entries,
            shares={
                (layer, name): Pattern.parse(amount) if isinstance(amount, str) else amount
                for layer, name, amount in there.shares
            },
        )


def stages_of(choice: Choice, layer: SelectiveLayer, counts: Counts) -> Sequence[Stage]:
    """Return what is done to one layer: states, entries of what is left, then weights."""
    stages: list[Stage] = []
    removed = counts.states.get(layer.name, 0)
    if choice.state is not None and removed:
        if choice.state.rows == "none":
            stages.append(states_stage(choice.state.criterion, removed))
        else:
            stages += compensated_states(choice.state.criterion, removed, choice.state.rows)
    if choice.entry is not None and layer.name in counts.entries:
        stages.append(entries_stage(choice.entry, counts.entries[layer.name]))
    if stages and choice.terms:
        stages.append(recovery_stage(layer, choice.terms))
    if choice.weight is not None and choice.weight.of(layer.name):
        stages += weight_stages(choice.weight, layer, counts.shares)
    return stages


def entries_stage(cut: States, removed: int) -> Stage:
    """Return the stage that cuts entries of A_log.

    So many entries of the layer go; a pattern says it by itself.
    """
    criterion, amount = cut.criterion, cut.budget.pattern or removed

    def collect(layer: SelectiveLayer, parts: MixerParts) -> Statistics:
        return criterion.gather_entries(parts.scan, layer.weights(), removed)

    def apply(layer: SelectiveLayer, totals: Totals) -> BlockRecord:
        weights = layer.weights()
        scores = criterion.entries(totals.sums, weights)
        keep = keep_entries(scores, weights.present, amount)
        halves = totals.halves and tuple(criterion.entries(half, weights) for half in totals.halves)
        facts = {
            "before": int(weights.present.sum()),
            "after": int(keep.sum()),
            "stability": _stability(
                halves, tuple(keep_entries(half, weights.present, amount) for half in halves or ())
            ),
        }
        cut_(layer, ENTRY, keep, semantics=cut.semantics)
        return BlockRecord(layer=layer.name, stage=ENTRY, keep={ENTRY: keep}, facts=facts)

    return Stage(
        name=ENTRY,
        collect=collect if criterion.needs_data else None,
        apply=apply,
        whole_batch=criterion.lockstep,
        keeps=SELECTION,
    )


def states_stage(criterion: SelectiveCriterion, removed: int) -> Stage:
    """Return the stage that removes states of all channels."""

    def collect(layer: SelectiveLayer, parts: MixerParts) -> Statistics:
        return criterion.gather_columns(parts.scan, layer.weights(), removed)

    def apply(layer: SelectiveLayer, totals: Totals) -> BlockRecord:
        weights = layer.weights()
        keep = keep_columns(criterion.columns(totals.sums, weights), removed)
        halves = totals.halves and tuple(criterion.columns(half, weights) for half in totals.halves)
        facts = {
            "before": layer.n,
            "after": int(keep.sum()),
            "stability": _stability(
                halves, tuple(keep_columns(half, removed) for half in halves or ())
            ),
        }
        cut_(layer, STATE, keep)
        return BlockRecord(layer=layer.name, stage=STATE, keep={STATE: keep}, facts=facts)

    return Stage(
        name=STATE,
        collect=collect if criterion.needs_data else None,
        apply=apply,
        whole_batch=criterion.lockstep,
        keeps=BRANCHES,
    )


def state_costs_stage(criterion: SelectiveCriterion) -> Stage:
    """Return a stage that only measures what each state of a layer costs."""

    def collect(layer: SelectiveLayer, parts: MixerParts) -> Statistics:
        return criterion.gather_columns(parts.scan, layer.weights(), 0)

    def apply(layer: SelectiveLayer, totals: Totals) -> BlockRecord:
        scores = criterion.columns(totals.sums, layer.weights())
        facts = {"costs": [float(value) for value in scores.sort().values]}
        return BlockRecord(layer=layer.name, stage="costs", facts=facts)

    return Stage(
        name="costs",
        collect=collect if criterion.needs_data else None,
        apply=apply,
        whole_batch=criterion.lockstep,
        keeps=SELECTION,
    )


def entry_costs_stage(
    criterion: SelectiveCriterion, costs: dict[str, Float64[Tensor, "e n"]]
) -> Stage:
    """Return a stage that only measures what each entry costs, of the energy of the stream.

    A layer's output is added to a stream that every later block normalises: what matters of a
    change is its share of the stream's energy. Outside of a block there is no stream to measure,
    and the energy of what the layer reads stands for it.
    """

    def collect(layer: SelectiveLayer, parts: MixerParts) -> Statistics:
        found = criterion.gather_entries(parts.scan, layer.weights(), 0)
        stream = parts.hidden if parts.residual is None else parts.residual
        if stream is None:
            raise NotImplementedError("costs are measured where a layer's input is known")
        energy = stream.double().square().sum(-1)
        valid = torch.ones_like(energy) if parts.valid is None else parts.valid.double()
        return found | {_STREAM: (energy * valid).sum(), _STEPS: valid.sum()}

    def apply(layer: SelectiveLayer, totals: Totals) -> BlockRecord:
        stream = totals.sums[_STREAM] / totals.sums[_STEPS]
        costs[layer.name] = criterion.entries(totals.sums, layer.weights()) / stream
        return BlockRecord(layer=layer.name, stage="costs")

    return Stage(
        name="costs",
        collect=collect,
        apply=apply,
        whole_batch=criterion.lockstep,
        keeps=SELECTION,
    )


def _stability(
    halves: tuple[Float64[Tensor, "..."], ...] | None, kept: tuple[Tensor, ...]
) -> dict[str, Any] | None:
    if halves is None:
        return None
    return stability((halves[0], halves[1]), (kept[0], kept[1])).as_dict()
