"""Refits that need more than moments: layer by layer on sequences, or alone under white noise."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import torch
from jaxtyping import Bool, Float64
from torch import Tensor, nn

from ssmith import allocate, surgery
from ssmith import calibrate as calibration
from ssmith.calibrate import LayerOutputs, RecordedTarget, Target, WhiteTarget
from ssmith.core.budget import Budget
from ssmith.core.compensation import Compensation, Readout, RefitConfig
from ssmith.core.layers import STATE, Finding, Modes
from ssmith.core.moments import Moments
from ssmith.core.plan import Cut
from ssmith.core.sequences import Sequences
from ssmith.criteria import Criterion
from ssmith.families import LTILayer
from ssmith.spine.losses import is_classifier

BATCH_SIZE = 64


def refit_by_layer(
    model: nn.Module,
    cut: Cut,
    part: Sequences,
    config: RefitConfig | None = None,
    *,
    criterion: Criterion | None = None,
    sensitivity: Mapping[str, Float64[Tensor, "m m"]] | None = None,
    wanted: LayerOutputs | None = None,
    batch_size: int = BATCH_SIZE,
) -> tuple[dict[str, Bool[Tensor, "..."]], Compensation]:
    """Refit layer after layer, each on what the cut layers before it really hand on.

    Each layer is fitted so that, driven by the cut model, it gives what the dense model's layer
    gives on the same sequences.

    Args:
        model: the dense model; it is not changed.
        cut: how many states each layer keeps, and which.
        part: calibration sequences.
        config: what is refitted (see `RefitConfig`).
        criterion: chooses anew, on what each layer now sees, which states stay; their number
            stays. The cut's own states if None.
        sensitivity: of the dense model (`calibrate.measure_sensitivity`), for a criterion that
            weighs by it; measured if None and needed.
        wanted: what the dense model's layers give on these sequences, where it was recorded with
            this batch size; recorded here if None.
        batch_size: sequences per forward pass.

    Returns:
        What stays of each layer, and the values that go with it.

    Raises:
        PlanError: if the cut does not fit the model.
        DataError: if there is no sequence.
        NumericalError: if a state or a value is not finite.
    """
    chosen = config or RefitConfig()
    if sensitivity is None and criterion is not None and "sensitivity" in criterion.needs:
        sensitivity = calibration.measure_sensitivity(
            model, part, centred=is_classifier(model), batch_size=batch_size
        )
    if wanted is None:
        wanted = calibration.outputs_of(model, part, batch_size)
    work = copy.deepcopy(model)
    keep, readouts, steps = {}, {}, 0
    for name, layer in surgery.check_fits(work, cut).items():
        modes, target = layer.modes(name), None
        if chosen.poles != "kept" or (chosen.rounds and modes.channel is None):
            target = RecordedTarget(
                stretches=calibration.record(
                    work, part, name, reference=wanted, batch_size=batch_size
                ),
                D=layer.get_parameter("D").detach().double().cpu(),
            )
        if target is not None and modes.channel is None:
            nothing = torch.zeros(layer.width, dtype=torch.float64)
            found = {name: target.moments(modes, nothing)}
        else:
            # All states of a SISO layer at once would take far more memory than its correlations.
            found = calibration.measure_moments(
                work, part, reference=wanted, layers=[name], batch_size=batch_size
            )
        if sensitivity is not None:
            found = calibration.with_sensitivity(work, found, sensitivity)
        moments = found[name]
        mask = keep[name] = _chosen_anew(cut.keep[name], modes, moments, criterion)
        flat = mask.reshape(-1) & modes.present
        if target is None:
            readouts[name] = surgery.refit_readout(modes, moments, flat, chosen, width=layer.width)
        else:
            readouts[name] = _refitted(layer, moments, flat, target, chosen)
        layer.write_(readouts[name])
        layer.mask_(mask.to(next(layer.parameters()).device))
        steps = moments.steps
    settings = {"fitted": "layer by layer", "source": "data", "steps": steps, **asdict(chosen)}
    return keep, Compensation(readouts=readouts, settings=settings)


def refit_white(model: nn.Module, cut: Cut, config: RefitConfig | None = None) -> Compensation:
    """Refit every layer towards what it was, for white noise at its input; needs no data.

    Args:
        model: the dense model; it is not changed.
        cut: what stays.
        config: what is refitted (see `RefitConfig`).

    Returns:
        The values that go with the cut.

    Raises:
        PlanError: if the cut does not fit the model.
        NumericalError: if a state is unstable, or a value is not finite.
    """
    chosen = config or RefitConfig()
    readouts = {}
    for name, layer in surgery.check_fits(model, cut).items():
        modes = layer.modes(name)
        keep = cut.keep[name].reshape(-1) & modes.present
        target = WhiteTarget(dense=modes, ridge=chosen.ridge)
        moments = calibration.white_moments(modes)
        readouts[name] = _refitted(layer, moments, keep, target, chosen)
    settings: dict[str, Any] = {"fitted": "all layers at once", "source": "white", "steps": 0}
    return Compensation(readouts=readouts, settings={**settings, **asdict(chosen)})


def _refitted(
    layer: LTILayer,
    moments: Moments,
    keep: Bool[Tensor, "s"],
    target: Target,
    config: RefitConfig,
) -> Readout:
    """Reduce if asked, then refit; where a reduction does not hold, refit the states chosen."""
    modes = layer.modes(moments.layer)
    start, change = replace(modes, present=keep), torch.zeros(layer.width, dtype=torch.float64)
    moved, findings = False, tuple[Finding, ...]()
    if config.poles != "kept":
        reduced = surgery.reduce_modes(modes, moments, keep, config, width=layer.width)
        findings = reduced.findings
        if reduced.moved and not _holds(layer, reduced.modes):
            findings += (_not_held(modes.layer),)
        elif reduced.moved:
            start, change, moved = reduced.modes, reduced.D_change, True
    small = start.only(keep) if isinstance(target, RecordedTarget) else start

    def refit(now: Modes, measured: Moments) -> Readout:
        return surgery.refit_readout(now, measured, now.present, config, width=layer.width)

    found = calibration.alternate(small, target, refit, rounds=config.rounds, change=change)
    if small is not start:
        found = _laid_out(found, start, keep)
    A_bar = start.A_bar if moved else None
    B_bar = start.B_bar if moved and found.B_bar is None else found.B_bar
    return replace(found, A_bar=A_bar, B_bar=B_bar, findings=findings)


def _laid_out(found: Readout, modes: Modes, keep: Bool[Tensor, "s"]) -> Readout:
    """Put the values of the states that stay into their places; the others read nothing."""

    def spread(rows: Tensor | None, base: Tensor) -> Tensor | None:
        if rows is None:
            return None
        out = base.clone()
        out[keep] = rows
        return out

    C = spread(found.C, torch.zeros_like(modes.C))
    assert C is not None
    silent = None if modes.C_back is None else torch.zeros_like(modes.C_back)
    back = None if silent is None else spread(found.C_back, silent)
    return replace(found, C=C, C_back=back, B_bar=spread(found.B_bar, modes.B_bar))


def _holds(layer: LTILayer, modes: Modes) -> bool:
    """Whether a layer can hold these eigenvalues: not if it clips them, or rounds them off."""
    tried = copy.deepcopy(layer)
    empty = Readout(
        C=modes.C,
        C_back=modes.C_back,
        D_change=torch.zeros(layer.width, dtype=torch.float64),
        error=(0.0, 0.0),
        A_bar=modes.A_bar,
        B_bar=modes.B_bar,
    )
    tried.write_(empty)
    written = tried.modes(modes.layer).A_bar[modes.present]
    wanted = modes.A_bar[modes.present]
    close = (written - wanted).abs() <= 1e-2 * (1 - wanted.abs()) + 1e-6
    return bool(close.all()) and bool((written.abs() < 1).all())


def _not_held(layer: str) -> Finding:
    return Finding(
        layer=layer,
        kind="not-reduced",
        message=f"layer {layer}: its parameters cannot hold the reduced eigenvalues (they are "
        "clipped or rounded); the states chosen stay, refitted, in place of a reduction",
    )


def _chosen_anew(
    keep: Bool[Tensor, "..."], modes: Modes, moments: Moments, criterion: Criterion | None
) -> Bool[Tensor, "..."]:
    """Return a mask that keeps as many states as ``keep``, by a criterion if there is one."""
    count = int(keep.sum())
    if criterion is None or count == 0:
        return keep
    scores = criterion([modes], {modes.layer: moments})
    gone = keep.numel() - count
    if gone == 0:
        return keep
    return allocate.allocate(scores, Budget(STATE, gone))[0].keep[modes.layer]
