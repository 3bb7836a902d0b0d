"""Surveys that tell how much each projection is to lose: walks that change nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ssmith.allocate.projections import LossCurve, by_marginal_loss, by_sensitivity
from ssmith.calibrate.blockwise import Stage, Tell, WalkConfig, surveying, walk
from ssmith.calibrate.hessian import COUNT, input_energies
from ssmith.core.errors import InputError, UnsupportedError
from ssmith.core.pattern import Pattern, removed_share
from ssmith.core.selective import BlockRecord, Statistics, Totals
from ssmith.core.tokens import TokenWindows
from ssmith.criteria.weights.sensitivity import Measure as Kind
from ssmith.criteria.weights.sensitivity import sensitivity
from ssmith.families.hf.blocks import Blocks
from ssmith.families.mamba.selective import MixerParts, SelectiveLayer
from ssmith.jobs.selective.projection_config import ProjectionConfig
from ssmith.jobs.selective.projections import Shares, cut_of, moments, write_

Measure = Callable[[TokenWindows], float]
"""The model's mean loss on windows, as it is now."""

RANKED = ("in_proj", "out_proj")
"""The projections SparseSSM's code allocates by sensitivity, each kind on its own."""
REACH = (0.5, 1.0, 1.5)
"""Losses are measured at these multiples of the sparsity asked for."""
MOST = 0.95
HELD_OUT = 0.25
"""Share of the calibration windows that losses are measured on."""


def shares_of(
    config: ProjectionConfig,
    blocks: Blocks,
    windows: TokenWindows,
    walking: WalkConfig,
    *,
    tell: Tell | None = None,
    measure: Measure | None = None,
) -> Shares:
    """Return what each projection of a model loses.

    Args:
        config: how it is allocated.
        blocks: of the dense model; they are as before afterwards.
        windows: calibration text.
        walking: batch size of the survey.
        tell: listener of the survey.
        measure: the model's loss, for the measured allocation.

    Returns:
        Fractions by layer and projection; empty where all lose the same.

    Raises:
        InputError: if the budget cannot be met, or there are too few windows to hold some out.
        UnsupportedError: if a measured allocation is asked for without a model in memory.
    """
    if config.allocation in ("spare-conv", "uniform") or isinstance(config.amount, Pattern):
        return {}
    with surveying(walking) as survey:
        return _surveyed(config, (blocks, windows), survey, tell=tell, measure=measure)


def _surveyed(
    config: ProjectionConfig,
    source: tuple[Blocks, TokenWindows],
    survey: WalkConfig,
    *,
    tell: Tell | None,
    measure: Measure | None,
) -> Shares:
    blocks, windows = source
    if config.allocation == "local":
        stage = _curves_stage(config, None)
        return _along_curves(config, walk(blocks, windows, lambda _: [stage], survey, tell))
    if config.allocation == "measured":
        if measure is None:
            raise UnsupportedError(
                "losses of a model that is not in memory as a whole cannot be measured",
                allowed="allocation spare-conv, uniform, local, sensitivity or sensitivity-trace",
            )
        return _by_loss(config, blocks, windows, survey, (measure, tell))
    stage = _sensitivity_stage(config)
    records = walk(blocks, windows, lambda _: [stage], survey, tell)
    shares: dict[tuple[str, str], float] = {}
    for name in [name for name in RANKED if name in config.targets]:
        found = {item.layer: float(item.facts[name]) for item in records}
        ranked = by_sensitivity(found, removed_share(config.amount), config.width)
        shares |= {(layer, name): share for layer, share in ranked.items()}
    return shares


def _sensitivity_stage(config: ProjectionConfig) -> Stage:
    names = [name for name in RANKED if name in config.targets]

    def collect(layer: SelectiveLayer, parts: MixerParts) -> Statistics:
        return input_energies(layer, parts, names)

    def apply(layer: SelectiveLayer, totals: Totals) -> BlockRecord:
        count = float(totals.sums[COUNT])
        kind: Kind = "trace" if config.allocation == "sensitivity-trace" else "released"
        facts = {name: sensitivity(totals.sums[name], count, kind) for name in names}
        return BlockRecord(layer=layer.name, stage="sensitivity", facts=facts)

    return Stage(name="sensitivity", collect=collect, apply=apply)


def _by_loss(
    config: ProjectionConfig,
    blocks: Blocks,
    windows: TokenWindows,
    survey: WalkConfig,
    listeners: tuple[Measure, Tell | None],
) -> Shares:
    measure, tell = listeners
    held = max(round(HELD_OUT * len(windows)), 1)
    if held >= len(windows):
        raise InputError(
            f"{len(windows)} calibration windows", allowed="at least 2",
            next_step="a quarter of them is held out to measure losses on",
        )  # fmt: skip
    order = torch.arange(len(windows))
    fitted, unseen = windows.take(order[:-held]), windows.take(order[-held:])
    stage = _curves_stage(config, lambda: measure(unseen))
    return _along_curves(config, walk(blocks, fitted, lambda _: [stage], survey, tell))


def _along_curves(config: ProjectionConfig, records: Sequence[BlockRecord]) -> Shares:
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
    found = by_marginal_loss(curves, removed_share(config.amount))
    return {places[key]: share for key, share in found.items()}


def _curves_stage(config: ProjectionConfig, loss: Callable[[], float] | None) -> Stage:
    """Return a stage that cuts each projection by itself, notes what that costs, and undoes it.

    Args:
        config: how projections are cut.
        loss: the model's, as it is now; None to take the relative error of the projection's own
            output in its place.

    Returns:
        The stage.
    """

    def collect(layer: SelectiveLayer, parts: MixerParts) -> Statistics:
        return moments(config, layer, parts, config.targets)

    def apply(layer: SelectiveLayer, totals: Totals) -> BlockRecord:
        sparsities = [0.0, *grid(removed_share(config.amount))]
        facts = {}
        for name in config.targets:
            own: Tensor = getattr(layer.mixer, name).weight
            before = own.detach().clone()
            losses = [0.0 if loss is None else loss()]
            for sparsity in sparsities[1:]:
                cut = cut_of(config, layer, name, totals.sums, sparsity)
                if loss is None:
                    losses.append(cut.relative_error)
                    continue
                write_(layer, name, cut.weight)
                losses.append(loss())
                write_(layer, name, before)
            facts[name] = {"size": own.numel(), "sparsities": sparsities, "losses": losses}
        return BlockRecord(layer=layer.name, stage="losses", facts=facts)

    return Stage(name="losses", collect=collect, apply=apply)


def grid(sparsity: float) -> Sequence[float]:
    """Return the sparsities losses are measured at: around the one asked for, below `MOST`."""
    most = max(MOST, sparsity)
    return sorted({min(factor * sparsity, most) for factor in REACH})
