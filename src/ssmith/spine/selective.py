"""Take a model through a walk, and write the receipt."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float64
from torch import Tensor, nn

from ssmith.allocate.selective import columns_by_cost, removed_count, shares_by_cost
from ssmith.calibrate.blockwise import Tell, WalkConfig, open_directory, surveying, walk
from ssmith.calibrate.shards import Group
from ssmith.core.errors import InputError, UnsupportedError
from ssmith.core.files import read_json, to_json, write_json
from ssmith.core.layers import Finding
from ssmith.core.plan import Plan
from ssmith.core.progress import Progress, silent
from ssmith.core.receipt import Receipt, versions
from ssmith.core.selective import COLUMNS, ENTRIES, BlockRecord
from ssmith.core.tokens import TokenWindows
from ssmith.evaluation.perplexity import window_losses
from ssmith.families import model_digest
from ssmith.families.hf.blocks import Blocks, ModelBlocks
from ssmith.families.mamba.selective import SelectiveLayer
from ssmith.families.parts.hooks import SLOT
from ssmith.families.registry import find_selective
from ssmith.jobs.selective.allocation import Measure, shares_of
from ssmith.jobs.selective.config import SelectiveConfig
from ssmith.jobs.selective.plans import plans_of, weights_of
from ssmith.jobs.selective.projections import STAGE as PROJECTIONS
from ssmith.jobs.selective.projections import Shares, projection_stages
from ssmith.jobs.selective.released import from_last_output
from ssmith.jobs.selective.stages import (
    Budgets,
    can_refit,
    column_costs_stage,
    entry_costs_stage,
    equal_columns,
    stages_of,
    state_stages,
)
from ssmith.surgery.selective import settle_

BUDGETS = "budgets.json"
"""What surveys gave each layer, in a working directory, so that they are not run again."""


@dataclass(frozen=True, kw_only=True)
class Pruned:
    """What a walk left.

    Args:
        receipt: what was removed, and how stable the choice is.
        plans: what stays of the states, per unit.
        weights: what stays of every weight of a projection that was cut, by dotted name.
    """

    receipt: Receipt
    plans: dict[str, Plan]
    weights: dict[str, Bool[Tensor, "..."]]

    def masked(self) -> dict[str, Bool[Tensor, "..."]]:
        """Return what stays of every parameter that keeps its shape, by dotted name."""
        entries = self.plans[ENTRIES].keep if ENTRIES in self.plans else {}
        return {**{f"{layer}.A_log": keep for layer, keep in entries.items()}, **self.weights}


def prune_selective_(
    model: nn.Module,
    windows: TokenWindows,
    config: SelectiveConfig,
    *,
    walk_config: WalkConfig | None = None,
    progress: Progress = silent,
) -> Pruned:
    """Prune a Mamba or Falcon-Mamba language model in place, block by block.

    Args:
        model: a transformers language model, or a `mamba_ssm` checkpoint loaded by ssmith. If an
            error ends the walk midway, blocks before it are cut already: work on a copy, or give
            a working directory and go on.
        windows: calibration text as token windows.
        config: what is removed, and by what.
        walk_config: batch size and working directory.
        progress: listener.

    Returns:
        Receipt and plans.

    Raises:
        UnsupportedError: if the model has no selective layer with states of its own.
        InputError: if the budget cannot be met, or the windows do not fit the model.
        NumericalError: if a number leaves the finite ones.
    """
    layers = find_selective(model)
    _refuse_adapters(model)
    config = config.resolved(refits=all(map(can_refit, layers.values())))
    check_windows(windows, vocabulary_of(model), config)
    digest = model_digest(model)
    walking = walk_config or WalkConfig()
    if walking.work_dir is not None and not walking.fingerprint:
        walking = replace(walking, fingerprint=fingerprint(digest, windows, config.as_dict()))
    total = sum(item.numel() for item in model.parameters())

    def measure(part: TokenWindows) -> float:
        return float(window_losses(model, part).sum()) / part.scored

    trip = Trip(windows=windows, config=config, walking=walking, progress=progress, measure=measure)
    records = trip.take(ModelBlocks(model), {name: layer.n for name, layer in layers.items()})
    settle_(model)
    facts = {
        "name": type(model).__name__, "family": model_type(model), "layers": len(layers),
        "digest_before": digest, "digest_after": model_digest(model),
        "parameters": {
            "before": total, "after": sum(item.numel() for item in model.parameters())
        },
    }  # fmt: skip
    said = forewarned(config, next(iter(layers.values())))
    return Pruned(
        receipt=receipt_of(config, windows, records, facts, said),
        plans=plans_of(records, config, digest),
        weights=weights_of(records),
    )


def forewarned(config: SelectiveConfig, layer: SelectiveLayer) -> tuple[Finding, ...]:
    """Return what to know of a cut before it is made.

    Args:
        config: what is to be removed.
        layer: any layer of the model.

    Returns:
        Findings about all layers; none if there is nothing to know.
    """
    if config.columns is None or not layer.forewarning:
        return ()
    return (Finding(layer="", kind="normalised", message=f"columns: {layer.forewarning}"),)


def _refuse_adapters(model: nn.Module) -> None:
    """Refuse a model that carries adapters: what is measured would not be what is cut."""
    carriers = [name for name, part in model.named_modules() if SLOT in part._modules]
    if carriers:
        raise UnsupportedError(
            f"{carriers[0]} carries adapters",
            allowed="models without adapters",
            next_step="merge them with ssmith.merge_adapter_, or attach them after pruning",
        )


def plan_selective(
    model: nn.Module, windows: TokenWindows, config: SelectiveConfig
) -> dict[str, Plan]:
    """Decide what to cut from a selective model, without changing it.

    Args:
        model: see `prune_selective_`.
        windows: calibration text as token windows.
        config: what is removed, and by what. Projections have no plan: their new weights are the
            decision.

    Returns:
        Plans by unit, to be read, edited and applied by ``prune_`` in this order; what makes up
        for removed columns is part of `prune_selective_` only.

    Raises:
        InputError: if nothing of what is to be removed has a plan.
    """
    if config.a_log is None and config.columns is None:
        raise InputError("projections have no plan", allowed="a_log, columns, or both")
    return prune_selective_(copy.deepcopy(model), windows, config).plans


@dataclass(frozen=True, kw_only=True)
class Trip:
    """A walk with its purpose.

    Args:
        windows: calibration text.
        config: what is removed.
        walking: how the walk runs.
        progress: listener.
        measure: the model's mean loss on windows; None where it is not in memory as a whole.
    """

    windows: TokenWindows
    config: SelectiveConfig
    walking: WalkConfig
    progress: Progress = silent
    measure: Measure | None = None

    def take(self, blocks: Blocks, sizes: Mapping[str, int]) -> tuple[BlockRecord, ...]:
        """Walk the blocks once, or, if layers share a number of columns by cost, twice.

        Args:
            blocks: where the blocks come from.
            sizes: states per channel of each layer.

        Returns:
            What every stage decided, in order.
        """
        config, tell = self.config, self._tell("pruning blocks")
        budgets = self._budgets(blocks, sizes)
        if not self._is_released:
            return walk(
                blocks, self.windows, lambda layer: stages_of(config, layer, budgets),
                self.walking, tell,
            )  # fmt: skip
        return self._released(blocks, budgets)

    def _budgets(self, blocks: Blocks, sizes: Mapping[str, int]) -> Budgets:
        """Return what surveys give each layer; from the working directory if it holds them."""
        config, path = self.config, None
        columns = equal_columns(config, sizes)
        if self.walking.work_dir is not None:
            open_directory(self.walking, self.walking.work_dir)
            path = self.walking.work_dir / BUDGETS
            if path.is_file():
                return Budgets.from_json(read_json(path))
        if columns and config.split == "marginal":
            columns = self._by_cost(blocks, sizes)
        budgets = Budgets(
            columns=columns,
            entries=self._entries(blocks) if config.over_layers else {},
            shares=self._shares(blocks) if not self._is_released else {},
        )
        if path is not None and Group.current().rank == 0:
            write_json(path, budgets.as_json())
        return budgets

    @property
    def _is_released(self) -> bool:
        projections = self.config.projections
        return projections is not None and projections.activations == "released"

    def _released(self, blocks: Blocks, budgets: Budgets) -> tuple[BlockRecord, ...]:
        """Walk twice: states first, then projections on the last block's output as input."""
        config, tell = self.config, self._tell("pruning blocks")
        if config.projections is None or self.walking.work_dir is not None:
            raise UnsupportedError(
                "the released order of projections does not go on from a working directory",
                allowed="a model in memory, for comparison",
                next_step="leave the working directory out, or take fresh activations",
            )
        projections = config.projections
        states = walk(
            blocks, self.windows, lambda layer: state_stages(config, layer, budgets),
            self.walking, tell,
        )  # fmt: skip
        shares = self._shares(blocks)
        return states + walk(
            from_last_output(blocks, self.windows), self.windows,
            lambda layer: projection_stages(projections, layer, shares), self.walking, tell,
        )  # fmt: skip

    def _shares(self, blocks: Blocks) -> Shares:
        if self.config.projections is None:
            return {}
        return shares_of(
            self.config.projections, blocks, self.windows, self.walking,
            tell=self._tell("surveying projections"), measure=self.measure,
        )  # fmt: skip

    def _entries(self, blocks: Blocks) -> dict[str, float]:
        costs: dict[str, Float64[Tensor, "e n"]] = {}
        stage = entry_costs_stage(self.config.criterion(), costs)
        with surveying(self.walking) as survey:
            walk(blocks, self.windows, lambda _: [stage], survey, self._tell("measuring entries"))
        units = sum(cost.numel() for cost in costs.values())
        share = self.config.a_log
        return shares_by_cost(
            costs, removed_count(share if isinstance(share, float) else 0.0, units, "entries")
        )

    def _by_cost(self, blocks: Blocks, sizes: Mapping[str, int]) -> dict[str, int]:
        stage, tell = column_costs_stage(self.config.criterion()), self._tell("measuring columns")
        with surveying(self.walking) as survey:
            found = walk(blocks, self.windows, lambda _: [stage], survey, tell)
        costs = {item.layer: torch.tensor(item.facts["costs"]).double() for item in found}
        total = sum(sizes.values())
        return columns_by_cost(
            costs, removed_count(self.config.columns or 0.0, total, "state columns")
        )

    def _tell(self, stage: str) -> Tell:
        def tell(done: float, total: int, note: str) -> None:
            self.progress(stage, done, total, note)

        return tell


def check_windows(windows: TokenWindows, vocabulary: int, config: SelectiveConfig) -> None:
    """Raise unless a model can be calibrated on these windows.

    Args:
        windows: the windows.
        vocabulary: token ids the model knows.
        config: what is to be done with them.

    Raises:
        InputError: if an id is outside the vocabulary, or the method cannot take padding.
    """
    largest = int(windows.ids.max())
    if largest >= vocabulary:
        raise InputError(
            f"{windows.name} has the token id {largest}, the model knows {vocabulary}",
            allowed=f"ids in [0, {vocabulary})",
            next_step="tokenise the text with the model's own tokeniser",
        )
    if config.criterion().lockstep and windows.pad_share > 0:
        raise InputError(
            f"{windows.pad_share:.1%} of the calibration windows is padding, and "
            f"{config.criterion().label} combines windows step by step",
            allowed="windows of one length",
            next_step="give a longer text, or a shorter --length",
        )


def vocabulary_of(model: Any) -> int:
    """Return how many token ids a model knows."""
    return int(model.get_input_embeddings().weight.shape[0])


def model_type(model: Any) -> str:
    """Return the name transformers gives a model's family."""
    return str(model.config.model_type)


def fingerprint(digest: str, windows: TokenWindows, asked: Mapping[str, Any]) -> str:
    """Return a digest of everything a pruning's result depends on.

    Args:
        digest: of the model.
        windows: calibration text.
        asked: the configuration, JSON-ready.

    Returns:
        The digest.
    """
    content = hashlib.sha256()
    content.update(digest.encode())
    content.update(to_json(asked).encode())
    for item in (windows.ids, windows.lengths):
        content.update(item.contiguous().numpy().tobytes())
    return content.hexdigest()


def receipt_of(
    config: SelectiveConfig,
    windows: TokenWindows,
    records: Sequence[BlockRecord],
    model: dict[str, Any],
    known: Sequence[Finding] = (),
) -> Receipt:
    """Return the receipt of a walk.

    Args:
        config: what was asked for.
        windows: the calibration text.
        records: what every stage decided.
        model: facts about the model before and after.
        known: findings from before the walk.

    Returns:
        The receipt.
    """
    return Receipt(
        action="prune",
        model=model,
        method={
            **config.as_dict(),
            "criterion": config.label,
            "semantics": {
                **({ENTRIES: config.semantics} if config.a_log is not None else {}),
                **({COLUMNS: "remove"} if config.columns is not None else {}),
            },
        },
        seed=config.seed,
        versions=versions(),
        data=windows.describe(),
        removed=_removed(records),
        findings=[item.as_dict() for item in known] + findings_of(records),
        details={
            "layers": [{"name": item.layer, "stage": item.stage, **item.facts} for item in records],
            "stability": _overall(records),
        },
    )


def _removed(records: Sequence[BlockRecord]) -> dict[str, Any]:
    found = {}
    for stage in (COLUMNS, ENTRIES, PROJECTIONS):
        facts = [item.facts for item in records if item.stage == stage]
        if facts:
            before = sum(item["before"] for item in facts)
            after = sum(item["after"] for item in facts)
            found[stage] = {"before": before, "after": after, "fraction": 1 - after / before}
    return found


def _overall(records: Sequence[BlockRecord]) -> dict[str, Any]:
    """Return per stage the least stable layer; empty where nothing was measured."""
    found = {}
    for stage in (COLUMNS, ENTRIES):
        measured = [item for item in records if item.stage == stage and item.facts.get("stability")]
        if measured:
            worst = min(measured, key=lambda item: item.facts["stability"]["rank_correlation"])
            found[stage] = {"worst_layer": worst.layer, **worst.facts["stability"]}
    return found


def findings_of(records: Sequence[BlockRecord]) -> list[dict[str, Any]]:
    """Return what a user must be told about a walk."""
    found = [
        Finding(
            layer=item.layer,
            kind="unstable",
            message=(
                f"{item.layer}: two halves of the calibration text choose {item.stage} "
                f"differently (rank correlation {facts['rank_correlation']:.2f}, overlap "
                f"{facts['overlap']:.2f}, both should reach {facts['threshold']:g}); give more "
                "samples"
            ),
        )
        for item in records
        if (facts := item.facts.get("stability")) and not facts["stable"]
    ]
    return [item.as_dict() for item in found]
