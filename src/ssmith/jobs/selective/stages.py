"""The stages of a walk: what each gathers of a layer, decides about it, and writes into it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor

from ssmith.allocate.selective import keep_columns, keep_entries, removed_count, stability
from ssmith.calibrate.blockwise import Stage
from ssmith.core.pattern import Amount, Pattern, amount_as_json, removed_share
from ssmith.core.selective import COLUMNS, ENTRIES, BlockRecord, Statistics, Totals
from ssmith.criteria.selective import SelectiveCriterion
from ssmith.criteria.selective.refit import LARGEST_STATE
from ssmith.families.mamba.selective import MixerParts, SelectiveLayer
from ssmith.jobs.selective.compensation import compensated_columns, recovery_stage
from ssmith.jobs.selective.config import SelectiveConfig
from ssmith.jobs.selective.projections import Shares, projection_stages

_STREAM, _STEPS = "stream energy", "stream steps"


@dataclass(frozen=True, kw_only=True)
class Budgets:
    """What surveys gave each layer.

    Args:
        columns: how many columns a layer loses; none where it is missing.
        entries: fraction of its entries of A_log a layer loses; the configured one where it is
            missing.
        shares: what a projection loses; the configured amount where it is missing.
    """

    columns: Mapping[str, int] = field(default_factory=dict)
    entries: Mapping[str, float] = field(default_factory=dict)
    shares: Shares = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return a JSON-ready dict."""
        return {
            "columns": dict(self.columns),
            "entries": dict(self.entries),
            "shares": [
                [*place, amount_as_json(amount)] for place, amount in sorted(self.shares.items())
            ],
        }

    @classmethod
    def from_json(cls, content: Any) -> Budgets:
        """Read what `as_json` returned.

        Args:
            content: parsed JSON.

        Returns:
            The budgets.
        """
        return cls(
            columns=content["columns"],
            entries=content["entries"],
            shares={
                (layer, name): Pattern.parse(amount) if isinstance(amount, str) else amount
                for layer, name, amount in content["shares"]
            },
        )


def stages_of(config: SelectiveConfig, layer: SelectiveLayer, budgets: Budgets) -> Sequence[Stage]:
    """Return what is done to one layer: columns, entries of what is left, then projections.

    Args:
        config: what is removed.
        layer: the layer, as it is before.
        budgets: what surveys gave each layer.

    Returns:
        The stages, in order.
    """
    stages = state_stages(config, layer, budgets)
    if config.projections is not None:
        stages += projection_stages(config.projections, layer, budgets.shares)
    return stages


def state_stages(config: SelectiveConfig, layer: SelectiveLayer, budgets: Budgets) -> list[Stage]:
    """Return what is done to the states of one layer: columns, entries, recovery.

    Args:
        config: what is removed.
        layer: the layer, as it is before.
        budgets: what surveys gave each layer.

    Returns:
        The stages, in order.
    """
    stages: list[Stage] = []
    removed = budgets.columns.get(layer.name, 0)
    criterion = config.criterion()
    if removed and config.compensate != "none":
        stages += compensated_columns(criterion, removed, config.compensate)
    elif removed:
        stages.append(columns_stage(criterion, removed))
    if config.a_log is not None:
        amount = budgets.entries.get(layer.name, config.a_log)
        if layer.name not in budgets.entries:
            _check_entries(config.a_log, layer.e, layer.n - removed)
        stages.append(entries_stage(criterion, amount, config.semantics))
    if stages and config.terms:
        stages.append(recovery_stage(layer, config.terms))
    return stages


def entries_stage(criterion: SelectiveCriterion, amount: Amount, semantics: str) -> Stage:
    """Return the stage that cuts entries of A_log.

    Args:
        criterion: scores them.
        amount: fraction of the layer's entries, or a pattern.
        semantics: what a cut entry does.

    Returns:
        The stage.
    """

    def count(layer: SelectiveLayer) -> int:
        return round(removed_share(amount) * layer.e * layer.n)

    def collect(layer: SelectiveLayer, parts: MixerParts) -> Statistics:
        return criterion.gather_entries(parts.scan, layer.weights(), count(layer))

    def apply(layer: SelectiveLayer, totals: Totals) -> BlockRecord:
        weights = layer.weights()
        scores = criterion.entries(totals.sums, weights)
        removed = amount if isinstance(amount, Pattern) else count(layer)
        keep = keep_entries(scores, weights.present, removed)
        halves = totals.halves and tuple(criterion.entries(half, weights) for half in totals.halves)
        facts = {
            "before": int(weights.present.sum()),
            "after": int(keep.sum()),
            "stability": _stability(
                halves, tuple(keep_entries(half, weights.present, removed) for half in halves or ())
            ),
        }
        layer.cut_entries_(keep, semantics)
        return BlockRecord(layer=layer.name, stage=ENTRIES, keep={ENTRIES: keep}, facts=facts)

    return Stage(
        name=ENTRIES, collect=collect if criterion.needs_data else None, apply=apply,
        lockstep=criterion.lockstep, leaves="selection",
    )  # fmt: skip


def columns_stage(criterion: SelectiveCriterion, removed: int) -> Stage:
    """Return the stage that removes state columns."""

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
        layer.shrink_columns_(keep)
        return BlockRecord(layer=layer.name, stage=COLUMNS, keep={COLUMNS: keep}, facts=facts)

    return Stage(
        name=COLUMNS, collect=collect if criterion.needs_data else None, apply=apply,
        lockstep=criterion.lockstep, leaves="branches",
    )  # fmt: skip


def column_costs_stage(criterion: SelectiveCriterion) -> Stage:
    """Return a stage that only measures what each column of a layer costs."""

    def collect(layer: SelectiveLayer, parts: MixerParts) -> Statistics:
        return criterion.gather_columns(parts.scan, layer.weights(), 0)

    def apply(layer: SelectiveLayer, totals: Totals) -> BlockRecord:
        scores = criterion.columns(totals.sums, layer.weights())
        facts = {"costs": [float(value) for value in scores.sort().values]}
        return BlockRecord(layer=layer.name, stage="costs", facts=facts)

    return Stage(
        name="costs", collect=collect if criterion.needs_data else None, apply=apply,
        lockstep=criterion.lockstep, leaves="selection",
    )  # fmt: skip


def entry_costs_stage(
    criterion: SelectiveCriterion, costs: dict[str, Float64[Tensor, "e n"]]
) -> Stage:
    """Return a stage that only measures what each entry costs, of the energy of the stream.

    A layer's output is added to a stream that every later block normalises: what matters of a
    change is its share of the stream's energy.

    Args:
        criterion: one whose scores are energies of the layer's output.
        costs: filled by layer.

    Returns:
        The stage.
    """

    def collect(layer: SelectiveLayer, parts: MixerParts) -> Statistics:
        found = criterion.gather_entries(parts.scan, layer.weights(), 0)
        if parts.residual is None:
            raise NotImplementedError("costs are measured inside a block")
        energy = parts.residual.double().square().sum(-1)
        valid = torch.ones_like(energy) if parts.valid is None else parts.valid.double()
        return found | {_STREAM: (energy * valid).sum(), _STEPS: valid.sum()}

    def apply(layer: SelectiveLayer, totals: Totals) -> BlockRecord:
        stream = totals.sums[_STREAM] / totals.sums[_STEPS]
        costs[layer.name] = criterion.entries(totals.sums, layer.weights()) / stream
        return BlockRecord(layer=layer.name, stage="costs")

    return Stage(
        name="costs", collect=collect, apply=apply, lockstep=criterion.lockstep, leaves="selection"
    )


def can_refit(layer: SelectiveLayer) -> bool:
    """Return whether columns of a layer can be refitted: C is not normalised, N is not huge."""
    return not layer.normalises and layer.n <= LARGEST_STATE


def equal_columns(config: SelectiveConfig, layers: Mapping[str, int]) -> dict[str, int]:
    """Return how many columns each layer loses if all lose the same share.

    Args:
        config: what is removed.
        layers: columns per layer.

    Returns:
        Columns to remove per layer; none if no columns are to be removed.

    Raises:
        InputError: if the share rounds to none or all columns of a layer.
    """
    if config.columns is None:
        return {}
    return {name: removed_count(config.columns, n, "state columns") for name, n in layers.items()}


def _check_entries(amount: Amount, e: int, n: int) -> None:
    """Refuse, before any data is run, what no layer of this size can lose."""
    if isinstance(amount, Pattern):
        amount.check(n, "a channel")
    else:
        removed_count(amount, e * n, "entries")


def _stability(
    halves: tuple[Float64[Tensor, "..."], ...] | None, kept: tuple[Tensor, ...]
) -> dict[str, Any] | None:
    if halves is None:
        return None
    return stability((halves[0], halves[1]), (kept[0], kept[1])).as_dict()
