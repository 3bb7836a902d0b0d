"""Refits that need more than moments: layer by layer on sequences, or alone under white noise."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Bool, Float64
from torch import Tensor, nn

from ssmith import allocate, surgery
from ssmith import calibrate as calibration
from ssmith.calibrate import RecordedTarget, Recording, RefitTarget, Stage, WhiteTarget
from ssmith.calibrate.sites import LTIView
from ssmith.core.budget import Budget
from ssmith.core.compensation import Compensation, Readout, RefitConfig
from ssmith.core.findings import Finding
from ssmith.core.layers import STATE, Modes
from ssmith.core.moments import Moments
from ssmith.core.plan import Cut
from ssmith.core.progress import Progress, silent
from ssmith.core.rows import Rows
from ssmith.core.selective import BlockRecord, Statistics, Totals
from ssmith.core.settings import typed
from ssmith.criteria import Criterion
from ssmith.families import LTILayer
from ssmith.spine.losses import is_classifier

BATCH_SIZE = 64
_VALUES = ("C", "C_back", "D_change", "B_bar", "A_bar")
"""Of a read-out, what is a tensor."""


def refit_by_layer(
    model: nn.Module,
    cut: Cut,
    rows: Rows,
    config: RefitConfig | None = None,
    *,
    criterion: Criterion | None = None,
    sensitivity: Mapping[str, Float64[Tensor, "m m"]] | None = None,
    run: calibration.PassConfig | None = None,
    progress: Progress = silent,
) -> tuple[dict[str, Bool[Tensor, "..."]], Compensation]:
    """Refit layer after layer, each on what the cut layers before it really make.

    Each layer is fitted so that, driven by the cut model, it gives what the dense model's layer
    gives on the same rows.

    A criterion chooses anew, on what each layer now sees, which states stay, their number being
    that of the cut; where it weighs by the sensitivity of the dense model, that is measured if not
    given.
    """
    chosen, how = config or RefitConfig(), run or calibration.PassConfig(batch_size=BATCH_SIZE)
    if sensitivity is None and criterion is not None and "sensitivity" in criterion.needs:
        sensitivity = calibration.measure_sensitivity(
            model, rows, centred=is_classifier(model), batch_size=how.at_once(BATCH_SIZE)
        )
    layers = surgery.check_fits(model, cut)
    refits = LayerRefits(
        keep=cut.keep, config=chosen, criterion=criterion, sensitivity=sensitivity or {}
    )
    done = calibration.run_pass(
        calibration.passage_of(model, rows, list(layers)),
        refits.stages,
        replace(how, batch_size=how.at_once(BATCH_SIZE)),
        reference=True,
        progress=progress,
        what="refitting layers",
    )
    found = {item.layer: item for item in done.records}
    steps = done.records[-1].facts["steps"]
    settings = {"fitted": "layer by layer", "source": "data", "steps": steps, **asdict(chosen)}
    readouts = {name: _readout_of(found[name]) for name in layers}
    keep = {name: found[name].keep[STATE] for name in layers}
    return keep, Compensation(readouts=readouts, settings=settings)


@dataclass(frozen=True, kw_only=True)
class LayerRefits:
    """The stage that cuts an S5 or S4D layer, and refits it towards what the dense one gives.

    What is by layer says which states stay, and how much its errors weigh; a criterion chooses anew
    which stay.
    """

    keep: Mapping[str, Bool[Tensor, "..."]]
    config: RefitConfig
    criterion: Criterion | None = None
    sensitivity: Mapping[str, Float64[Tensor, "m m"]] = field(default_factory=dict)

    def stages(self, view: LTIView) -> Sequence[Stage]:
        """Return what is done to a layer; the pass runs with its dense reference."""
        del view
        recordings: list[Recording] = []

        def collect(view: LTIView, found: Sequence[Recording]) -> Statistics:
            del view
            recordings.extend(found)
            return {}

        def apply(view: LTIView, totals: Totals) -> BlockRecord:
            del totals
            return self._refit_(view, recordings)

        return [Stage(name=STATE, collect=collect, apply=apply, whole_batch=True)]

    def _refit_(self, view: LTIView, recordings: Sequence[Recording]) -> BlockRecord:
        name, layer, modes, target = view.name, view.layer, view.modes(), None
        if self.config.poles != "kept" or (self.config.rounds and modes.channel is None):
            D = layer.get_parameter("D").detach().double().cpu()
            target = RecordedTarget(recordings=recordings, D=D)
        if target is not None and modes.channel is None:
            moments = target.moments(modes, torch.zeros(layer.width, dtype=torch.float64))
        else:
            # All states of a SISO layer at once would take far more memory than its correlations.
            moments = calibration.moments_between(modes, recordings)
        if self.sensitivity:
            moments = calibration.weighted(moments, modes, self.sensitivity[name])
        mask = _chosen_anew(self.keep[name], modes, moments, self.criterion)
        flat = mask.reshape(-1) & modes.present
        if target is None:
            found = surgery.refit_readout(modes, moments, flat, self.config, width=layer.width)
        else:
            found = _refitted(layer, moments, flat, target, self.config)
        # Products of complex numbers round otherwise where they lie apart, and a file holds them
        # side by side.
        own = {
            name: value.contiguous()
            for name in _VALUES
            if (value := getattr(found, name)) is not None
        }
        layer.write_(replace(found, **own))
        layer.mask_(mask.to(next(layer.parameters()).device))
        facts = {
            "before": int(modes.present.sum()), "after": int(flat.sum()), "steps": moments.steps,
            "error": found.error, "findings": [item.as_dict() for item in found.findings],
        }  # fmt: skip
        values = {
            name: torch.view_as_real(value) if value.is_complex() else value
            for name, value in own.items()
        }
        keep = {STATE: mask.cpu()}
        return BlockRecord(layer=name, stage=STATE, keep=keep, facts=facts, values=values)


def _readout_of(record: BlockRecord) -> Readout:
    """Return the values that a stage decided on, from what is kept of it."""
    values: dict[str, Any] = {
        name: value if name == "D_change" else torch.view_as_complex(value)
        for name, value in record.values.items()
    }
    findings = tuple(
        typed(Finding, item, where=record.layer, next_step="remove the working directory")
        for item in record.facts["findings"]
    )
    before, after = record.facts["error"]
    return Readout(**{"C_back": None, **values}, error=(before, after), findings=findings)


def refit_white(model: nn.Module, cut: Cut, config: RefitConfig | None = None) -> Compensation:
    """Refit every layer towards what it was, for white noise at its input; needs no data."""
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
    target: RefitTarget,
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
