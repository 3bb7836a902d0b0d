"""Surveys that tell how much each layer and projection is to lose: passes that change nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from ssmith.allocate.projections import LossCurve, by_marginal_loss, by_sensitivity
from ssmith.allocate.ranking import apportion
from ssmith.allocate.selective import columns_by_cost, entries_by_cost, removed_count
from ssmith.calibrate import Passage, PassConfig, Stage, measuring, run_pass
from ssmith.calibrate.hessian import COUNT, hessians, input_energies
from ssmith.core.budget import Budget
from ssmith.core.errors import InputError, UnsupportedError
from ssmith.core.pattern import Pattern, removed_share
from ssmith.core.progress import Progress
from ssmith.core.rows import Rows
from ssmith.core.selective import BlockRecord, Statistics, Totals
from ssmith.criteria.weights.sensitivity import Measure as Kind
from ssmith.criteria.weights.sensitivity import sensitivity
from ssmith.families.mamba.selective import MixerParts, SelectiveLayer
from ssmith.spine.choice import Choice, States, Weights
from ssmith.spine.losses import held_out
from ssmith.spine.states import Counts, entry_costs_stage, state_costs_stage
from ssmith.spine.weights import Shares, cut_of, write_

Measure = Callable[[Rows], Callable[[SelectiveLayer], float]]
"""Returns how the model's loss on some rows is measured, with a layer in place of its own."""

RANKED = ("in_proj", "out_proj")
"""The projections SparseSSM's code ranks by sensitivity, each kind on its own."""
REACH = (0.5, 1.0, 1.5)
"""Losses are measured at these multiples of the sparsity asked for."""
MOST = 0.95


@dataclass(frozen=True, kw_only=True)
class CostSurvey:
    """What surveys look at.

    ``passage`` returns the way of some rows through the dense model, ``sizes`` are the channels and
    states of each layer, and ``measure`` is the model's loss: None where it is not in memory as a
    whole.
    """

    passage: Callable[[Rows], Passage]
    rows: Rows
    config: PassConfig
    sizes: Mapping[str, tuple[int, int]]
    progress: Progress
    measure: Measure | None = None

    def counts(self, choice: Choice) -> Counts:
        """Return what each layer loses under a choice."""
        states = {} if choice.state is None else self._states(choice.state)
        left = {name: n - states.get(name, 0) for name, (_, n) in self.sizes.items()}
        return Counts(
            states=states,
            entries={} if choice.entry is None else self._entries(choice.entry, left),
            shares={} if choice.weight is None else self._shares(choice.weight),
        )

    def run(self, stage: Stage, what: str, rows: Rows) -> tuple[BlockRecord, ...]:
        """Take all layers through one stage that leaves them as they are."""
        with measuring(self.config) as config:
            return run_pass(
                self.passage(rows), lambda _: [stage], config, progress=self.progress, what=what
            ).records

    def _wanted(self, budget: Budget) -> list[str]:
        names = [name for name in self.sizes if budget.wants(name)]
        if not names:
            raise InputError(
                f"targets are {list(budget.targets)}, and none is a layer",
                allowed=", ".join(self.sizes),
            )
        return names

    def _states(self, cut: States) -> dict[str, int]:
        names = self._wanted(cut.budget)
        sizes = [self.sizes[name][1] for name in names]
        if isinstance(cut.budget.sparsity, int):
            total = cut.budget.removed_of(sum(sizes))
            counts = apportion(sizes, total, least=[0] * len(sizes), most=[n - 1 for n in sizes])
        else:
            counts = [removed_count(cut.budget.share, n, "states") for n in sizes]
            total = removed_count(cut.budget.share, sum(sizes), "states")
        if not cut.by_cost:
            return dict(zip(names, counts, strict=True))
        found = self.run(state_costs_stage(cut.scoring), "measuring states", self.rows)
        costs = {item.layer: torch.tensor(item.facts["costs"]).double() for item in found}
        return columns_by_cost({name: costs[name] for name in names}, total)

    def _entries(self, cut: States, left: Mapping[str, int]) -> dict[str, int]:
        names, budget = self._wanted(cut.budget), cut.budget
        sizes = [self.sizes[name][0] * left[name] for name in names]
        if budget.pattern is not None:
            for name in names:
                budget.pattern.check(left[name], "a channel")
            return {
                name: round(budget.share * size) for name, size in zip(names, sizes, strict=True)
            }
        if isinstance(budget.sparsity, int):
            total = budget.removed_of(sum(sizes))
            counts = apportion(sizes, total, least=[0] * len(sizes), most=sizes)
        else:
            total = removed_count(budget.share, sum(sizes), "entries")
            counts = [removed_count(budget.share, size, "entries") for size in sizes]
        if not cut.by_cost:
            return dict(zip(names, counts, strict=True))
        costs: dict[str, Float64[Tensor, "e n"]] = {}
        self.run(entry_costs_stage(cut.scoring, costs), "measuring entries", self.rows)
        costs = {name: costs[name] for name in names}
        units = sum(cost.numel() for cost in costs.values())
        gone = entries_by_cost(costs, round(total * units / sum(sizes)))
        # States that went before took their entries with them; the others share what is to go in
        # the same proportions.
        common = math.lcm(*(cost.numel() for cost in costs.values()))
        parts = [
            gone[name] * size * (common // costs[name].numel())
            for name, size in zip(names, sizes, strict=True)
        ]
        counts = apportion(parts, total, least=[0] * len(sizes), most=sizes)
        return dict(zip(names, counts, strict=True))

    def _shares(self, cut: Weights) -> Shares:
        names = [name for name in self.sizes if cut.of(name)]
        if not names:
            raise InputError(
                f"targets are {list(cut.budget.targets)}, and none is a projection",
                allowed="names of layers and of in_proj, conv1d, x_proj, dt_proj, out_proj",
            )
        if cut.scope in ("spare-conv", "uniform") or isinstance(cut.amount, Pattern):
            return {}
        if cut.scope == "cost":
            found = self.run(_curves_stage(cut, None), "surveying weights", self.rows)
            return _along_curves(cut, found)
        if cut.scope == "measured":
            return self._by_loss(cut)
        found = self.run(_sensitivity_stage(cut), "surveying weights", self.rows)
        shares: dict[tuple[str, str], float] = {}
        for name in RANKED:
            of_kind = {item.layer: float(item.facts[name]) for item in found if name in item.facts}
            ranked = by_sensitivity(of_kind, removed_share(cut.amount), cut.width)
            shares |= {(layer, name): share for layer, share in ranked.items()}
        return shares

    def _by_loss(self, cut: Weights) -> Shares:
        measure = self.measure
        if measure is None:
            raise UnsupportedError(
                "losses of a model that is not in memory as a whole cannot be measured",
                allowed="scope uniform, cost, sensitivity or sensitivity-trace",
            )
        fitted, unseen = held_out(self.rows)
        stage = _curves_stage(cut, measure(unseen))
        return _along_curves(cut, self.run(stage, "surveying weights", fitted))


def _sensitivity_stage(cut: Weights) -> Stage:
    def names(layer: SelectiveLayer) -> list[str]:
        return [name for name in RANKED if name in cut.of(layer.name)]

    def collect(layer: SelectiveLayer, parts: MixerParts) -> Statistics:
        return input_energies(layer, parts, names(layer))

    def apply(layer: SelectiveLayer, totals: Totals) -> BlockRecord:
        count = float(totals.sums[COUNT])
        kind: Kind = "trace" if cut.scope == "sensitivity-trace" else "released"
        facts = {name: sensitivity(totals.sums[name], count, kind) for name in names(layer)}
        return BlockRecord(layer=layer.name, stage="sensitivity", facts=facts)

    return Stage(name="sensitivity", collect=collect, apply=apply)


def _along_curves(cut: Weights, records: Sequence[BlockRecord]) -> Shares:
    curves: dict[str, LossCurve] = {}
    places: dict[str, tuple[str, str]] = {}
    for item in records:
        for name, facts in item.facts.items():
            key = f"{item.layer}.{name}"
            places[key] = (item.layer, name)
            curves[key] = LossCurve(
                size=facts["size"],
                sparsities=torch.tensor(facts["sparsities"], dtype=torch.float64),
                losses=torch.tensor(facts["losses"], dtype=torch.float64),
            )
    found = by_marginal_loss(curves, removed_share(cut.amount))
    return {places[key]: share for key, share in found.items()}


def _curves_stage(cut: Weights, loss: Callable[[SelectiveLayer], float] | None) -> Stage:
    """Return a stage that cuts each projection by itself, notes what that costs, and undoes it.

    The loss is the model's, with a layer in place of its own; without one it is the relative error
    of the projection's own output.
    """

    def collect(layer: SelectiveLayer, parts: MixerParts) -> Statistics:
        return hessians(layer, parts, cut.of(layer.name))

    def apply(layer: SelectiveLayer, totals: Totals) -> BlockRecord:
        sparsities = [0.0, *grid(removed_share(cut.amount))]
        facts = {}
        for name in cut.of(layer.name):
            own: Tensor = layer.part(name).weight
            before = own.detach().clone()
            losses = [0.0 if loss is None else loss(layer)]
            for sparsity in sparsities[1:]:
                found = cut_of(cut, layer, name, totals.sums, sparsity)
                if loss is None:
                    losses.append(found.relative_error)
                    continue
                write_(layer, name, found.weight)
                losses.append(loss(layer))
                write_(layer, name, before)
            facts[name] = {"size": own.numel(), "sparsities": sparsities, "losses": losses}
        return BlockRecord(layer=layer.name, stage="losses", facts=facts)

    return Stage(name="losses", collect=collect, apply=apply)


def grid(sparsity: float) -> Sequence[float]:
    """Return the sparsities losses are measured at: around the one asked for, below `MOST`."""
    most = max(MOST, sparsity)
    return sorted({min(factor * sparsity, most) for factor in REACH})
