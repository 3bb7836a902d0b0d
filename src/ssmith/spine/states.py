"""The stages that cut states and entries of selective layers, and what each one decides."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor

from ssmith.allocate.selective import keep_entries
from ssmith.calibrate import BRANCHES, SELECTION, Stage
from ssmith.core.layers import STATE
from ssmith.core.pattern import Pattern, amount_as_json, keep_largest
from ssmith.core.selective import ENTRY, BlockRecord, LayerWeights, Statistics, Totals
from ssmith.core.settings import typed
from ssmith.criteria.selective import Scoring
from ssmith.families.mamba.family import cut_
from ssmith.families.mamba.selective import MixerParts, SelectiveLayer
from ssmith.spine.choice import Choice, States
from ssmith.spine.compensate import compensated_states, recovery_stage, stability_of
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

    A layer that is missing loses none, and a projection the budget's own amount.
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
            stages.append(states_stage(choice.state, removed))
        else:
            stages += compensated_states(choice.state.scoring, removed, choice.state.rows)
    if choice.entry is not None and layer.name in counts.entries:
        stages.append(entries_stage(choice.entry, counts.entries[layer.name]))
    if stages and choice.terms:
        stages.append(recovery_stage(layer, choice.terms))
    if choice.weight is not None and choice.weight.of(layer.name):
        stages += weight_stages(choice.weight, layer, counts.shares)
    return stages


def entries_stage(cut: States, removed: int) -> Stage:
    """Return the stage that cuts so many entries of A_log; a pattern says it by itself."""
    amount = cut.budget.pattern or removed
    return _cut_stage(
        ENTRY,
        cut,
        removed,
        choose=lambda scores, weights: keep_entries(scores, weights.present, amount),
        before=lambda layer: int(layer.weights().present.sum()),
        keeps=SELECTION,
    )


def states_stage(cut: States, removed: int) -> Stage:
    """Return the stage that removes states of all channels."""
    return _cut_stage(
        STATE,
        cut,
        removed,
        choose=lambda scores, _: keep_largest(scores, removed),
        before=lambda layer: layer.n,
        keeps=BRANCHES,
    )


def _cut_stage(
    unit: str,
    cut: States,
    removed: int,
    *,
    choose: Callable[[Tensor, LayerWeights], Tensor],
    before: Callable[[SelectiveLayer], int],
    keeps: frozenset[str],
) -> Stage:
    scoring = cut.scoring

    def apply(layer: SelectiveLayer, totals: Totals) -> BlockRecord:
        weights = layer.weights()

        def chosen(sums: Statistics) -> tuple[Tensor, Tensor]:
            scores = scoring.score(sums, weights)
            return scores, choose(scores, weights)

        _, keep = chosen(totals.sums)
        facts = {
            "before": before(layer),
            "after": int(keep.sum()),
            "stability": stability_of(totals, chosen),
        }
        cut_(layer, unit, keep, semantics=cut.semantics)
        return BlockRecord(layer=layer.name, stage=unit, keep={unit: keep}, facts=facts)

    return Stage(
        name=unit,
        collect=_collecting(scoring, removed),
        apply=apply,
        whole_batch=scoring.lockstep,
        keeps=keeps,
    )


def _collecting(
    scoring: Scoring, removed: int
) -> Callable[[SelectiveLayer, MixerParts], Statistics] | None:
    """Return what a stage gathers; None where scores see no data."""
    gather = scoring.gather
    if gather is None:
        return None
    return lambda layer, parts: gather(parts.scan, layer.weights(), removed)


def state_costs_stage(scoring: Scoring) -> Stage:
    """Return a stage that only measures what each state of a layer costs."""

    def apply(layer: SelectiveLayer, totals: Totals) -> BlockRecord:
        scores = scoring.score(totals.sums, layer.weights())
        facts = {"costs": [float(value) for value in scores.sort().values]}
        return BlockRecord(layer=layer.name, stage="costs", facts=facts)

    return Stage(
        name="costs",
        collect=_collecting(scoring, 0),
        apply=apply,
        whole_batch=scoring.lockstep,
        keeps=SELECTION,
    )


def entry_costs_stage(scoring: Scoring, costs: dict[str, Float64[Tensor, "e n"]]) -> Stage:
    """Return a stage that only measures what each entry costs, of the energy of the stream.

    A layer's output is added to a stream that every later block normalises: what matters of a
    change is its share of the stream's energy. Outside of a block there is no stream to measure,
    and the energy of what the layer reads stands for it.
    """
    collecting = _collecting(scoring, 0)

    def collect(layer: SelectiveLayer, parts: MixerParts) -> Statistics:
        found = {} if collecting is None else collecting(layer, parts)
        stream = parts.hidden if parts.residual is None else parts.residual
        if stream is None:
            raise NotImplementedError("costs are measured where a layer's input is known")
        energy = stream.double().square().sum(-1)
        valid = torch.ones_like(energy) if parts.valid is None else parts.valid.double()
        return found | {_STREAM: (energy * valid).sum(), _STEPS: valid.sum()}

    def apply(layer: SelectiveLayer, totals: Totals) -> BlockRecord:
        stream = totals.sums[_STREAM] / totals.sums[_STEPS]
        costs[layer.name] = scoring.score(totals.sums, layer.weights()) / stream
        return BlockRecord(layer=layer.name, stage="costs")

    return Stage(
        name="costs",
        collect=collect,
        apply=apply,
        whole_batch=scoring.lockstep,
        keeps=SELECTION,
    )
