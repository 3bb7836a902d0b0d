"""Refit the read-out of the states that stay, so that the layer's output changes least."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import asdict

import torch
from jaxtyping import Bool, Float64
from torch import Tensor, nn

from ssmith.core.compensation import Compensation, Readout, RefitConfig
from ssmith.core.errors import InputError, NumericalError, PlanError
from ssmith.core.layers import STATE, Modes
from ssmith.core.layout import Layout
from ssmith.core.moments import Moments
from ssmith.core.plan import Cut
from ssmith.core.regression import System, solve_kept, system_of
from ssmith.families import LTILayer, find_layers, sites


def check_fits(model: nn.Module, cut: Cut) -> dict[str, LTILayer]:
    """Return the S5 and S4D layers that a cut of states is for."""
    layers = {name: layer for name, layer in find_layers(model).items() if name in cut.keep}
    unknown = sorted(set(cut.keep) - set(layers))
    if unknown:
        raise PlanError(f"the cut names layers that are not there: {unknown}")
    for name, layer in layers.items():
        if tuple(cut.keep[name].shape) != layer.grid():
            raise PlanError(
                f"layer {name}: states of shape {tuple(cut.keep[name].shape)}",
                allowed=str(layer.grid()),
            )
    return layers


def readout_values(
    name: str, layer: LTILayer, keep: Bool[Tensor, "..."], readout: Readout
) -> dict[str, Tensor]:
    """Return the tensors of a cut layer that a refit makes others than the dense ones cut."""
    plain, fitted = copy.deepcopy(layer), copy.deepcopy(layer)
    fitted.write_(readout)
    for item in (plain, fitted):
        (site,) = sites(item).values()
        site.cut_(site.coupling(STATE), keep)
    own = plain.state_dict()
    return {
        f"{name}.{key}": value.detach().cpu().clone()
        for key, value in fitted.state_dict().items()
        if not torch.equal(value, own[key])
    }


def refit(
    model: nn.Module,
    cut: Cut,
    moments: Mapping[str, Moments],
    config: RefitConfig | None = None,
) -> Compensation:
    """Return the best read-outs for what a cut keeps; moments say no more than that."""
    chosen = config or RefitConfig()
    if chosen.rounds or chosen.poles != "kept":
        raise InputError(
            f"rounds is {chosen.rounds} and poles is {chosen.poles!r}",
            allowed="rounds=0 and poles='kept' where only moments are known",
            next_step="compensate in full on sequences, or under white noise without any",
        )
    readouts = {}
    for name, layer in check_fits(model, cut).items():
        if name not in moments:
            raise InputError(
                f"there are no moments of layer {name}", allowed=", ".join(cut.keep),
                next_step="calibrate the model that is cut",
            )  # fmt: skip
        keep = cut.keep[name].reshape(-1)
        readouts[name] = refit_readout(
            layer.modes(name), moments[name], keep, chosen, width=layer.width
        )
    steps = {name: moments[name].steps for name in readouts}
    source = ", ".join(sorted({moments[name].source for name in readouts}))
    return Compensation(
        readouts=readouts,
        settings={
            "fitted": "all layers at once",
            "source": source,
            "steps": max(steps.values(), default=0),
            **asdict(chosen),
        },
    )


@torch.no_grad()
def refit_readout(
    modes: Modes, moments: Moments, keep: Bool[Tensor, "s"], config: RefitConfig, *, width: int
) -> Readout:
    """Return the read-out of the kept states that comes closest to the output wanted.

    With removed weights ``w_R`` the best change on the kept features is
    ``δ_K = G_KK⁻¹ (G_KR w_R + E[z_K e])``; with D, the input joins as one more feature per output.

    It is 0 at removed states, and comes with the error before and after.

    Source: least squares on second moments; for white moments, the fixed-pole H2-optimal read-out.
    Differs: the ridge pulls towards the weights there are, not towards zero.
    """
    layout = Layout.of(modes)
    system = system_of(layout, modes, moments, config.ridge)
    kept = layout.place(keep & modes.present).repeat_interleave(layout.parts, dim=-1)
    on = kept.unsqueeze(-1)
    removed = torch.where(on, 0.0, system.weight)
    change = solve_kept(system.gram, system.gram @ removed + system.error, kept)
    direct = torch.zeros_like(system.input_energy)
    if config.direct:
        aside = solve_kept(system.gram, system.input, kept)
        against = system.input_error + (system.input * (removed - change)).sum(1)
        free = (1 + config.ridge) * system.input_energy - (system.input * aside).sum(1)
        # An input that the kept states already tell (or that is silent) leaves D as it is.
        usable = free > 1e-12 * system.input_energy
        direct = torch.where(usable, against / torch.where(usable, free, 1.0), 0.0)
        change = change - direct.unsqueeze(1) * aside
    before = _error(system, -removed, torch.zeros_like(direct), config.ridge)
    after = _error(system, change - removed, direct, config.ridge)
    fitted = (system.weight + change) / system.scale.unsqueeze(-1) + system.silent
    C, C_back = layout.readout(torch.where(on, fitted, 0.0))
    if not bool(torch.isfinite(torch.view_as_real(C)).all()) or not math.isfinite(after):
        raise NumericalError(
            f"layer {modes.layer}: the refitted read-out is not finite",
            next_step="raise the ridge, or check the sequences for extreme values",
        )
    return Readout(
        C=C, C_back=C_back, D_change=layout.channels(direct, width), error=(before, after)
    )


def _error(
    system: System, change: Float64[Tensor, "g f o"], direct: Float64[Tensor, "g o"], ridge: float
) -> float:
    """Return ``E‖e − changeᵀz − direct·u‖²``, summed over outputs, without the ridge's noise."""
    quadratic = (change * (system.gram @ change - ridge * change)).sum(1)
    crossed = direct * (system.input * change).sum(1) - (system.error * change).sum(1)
    own = system.error_energy + direct * (direct * system.input_energy)
    return float((own + quadratic + 2 * crossed - 2 * direct * system.input_error).sum())
