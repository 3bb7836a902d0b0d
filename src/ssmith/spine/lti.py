"""Plans for S5 and S4D: a criterion scores the states, and what stays is refitted on data."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Literal

from torch import Tensor, nn

from ssmith import calibrate, families, surgery
from ssmith.allocate import allocate, by_measured_loss
from ssmith.calibrate import PassConfig
from ssmith.core.budget import AUTO, NONE, ONCE, WHITE, Budget
from ssmith.core.compensation import Compensation, Poles, RefitConfig
from ssmith.core.errors import InputError
from ssmith.core.findings import Finding
from ssmith.core.layers import STATE
from ssmith.core.moments import Moments
from ssmith.core.names import spelled
from ssmith.core.plan import Cut, Plan
from ssmith.core.progress import Progress, silent
from ssmith.core.rows import Rows
from ssmith.core.scores import Scores
from ssmith.criteria import Criterion, StateOBS, by_name, names, unknown_method, with_settings
from ssmith.spine.layered import kept_for
from ssmith.spine.losses import is_classifier
from ssmith.spine.measured import loss_curves
from ssmith.spine.refit import BATCH_SIZE, refit_by_layer, refit_white

Refit = Literal["none", "once", "white", "readout", "full"]
REDUCTIONS: dict[str, tuple[Poles, str]] = {
    "balanced": ("balanced", "Balanced truncation"),
    "singular-perturbation": ("perturbation", "Singular perturbation"),
    "h2-optimal": ("h2", "H2-optimal"),
}
"""Methods that move the eigenvalues; State-OBS says how many states each layer keeps."""
ROUNDS = 2
"""How often a full refit goes from input rows to read-out."""
DEFAULT, DEFAULT_WITH_DATA = "last", "state-obs"


@dataclass(frozen=True, kw_only=True)
class StateMethod:
    """How states of S5 and S4D layers are cut.

    Args:
        name: as users call it.
        criterion: what scores the states.
        refit: what of the rest is refitted: nothing; the read-outs of all layers at once, on what
            the dense model does; in full, each layer alone, under white noise; the read-outs layer
            by layer, on what the cut layers hand on; or in full, layer by layer.
        poles: whether a layer is reduced by projection first (see `RefitConfig`).
        measured: share the budget out over layers by what cutting each one alone was measured to
            do, in place of the scores.
    """

    name: str
    criterion: Criterion
    refit: Refit
    poles: Poles = "kept"
    measured: bool = False

    @property
    def label(self) -> str:
        """Name for plots and tables."""
        base = self.criterion.label
        if self.poles != "kept":
            base = dict(REDUCTIONS.values())[self.poles]
            base += " under white noise" * (self.refit == "white")
        elif self.refit != _usual_refit(self.criterion):
            base += {
                "none": " without refit",
                "once": " + refit at once",
                "white": " + refit under white noise",
                "readout": " + refit",
                "full": " + full refit",
            }[self.refit]
        return base + ", measured loss" * self.measured

    @property
    def config(self) -> RefitConfig:
        """What is refitted."""
        full = self.refit in ("white", "full")
        return RefitConfig(direct=full, rounds=ROUNDS if full else 0, poles=self.poles)

    @property
    def by_layer(self) -> bool:
        """Whether layers are refitted one after the other, so that a pass can go on."""
        return self.refit in ("readout", "full")

    @property
    def needs_data(self) -> bool:
        """Whether rows are needed."""
        if self.refit == "white":
            return self.measured
        return self.measured or self.refit != "none" or bool(self.criterion.needs)


def method_of(budget: Budget, *, has_data: bool) -> StateMethod:
    """Return what a budget asks for.

    What is left to choose depends on whether there are rows.
    """
    name = spelled(budget.method)
    if name == AUTO:
        name = DEFAULT_WITH_DATA if has_data else DEFAULT
    poles: Poles = "kept"
    if name in REDUCTIONS:
        poles, criterion = REDUCTIONS[name][0], by_name("state-obs")
    elif name not in names():
        known = (*names(), *REDUCTIONS)
        raise unknown_method(budget.method, "states of S5 and S4D", known)
    else:
        criterion = by_name(name)
    criterion = _with_settings(criterion, name, budget)
    refit = _refit_of(budget, criterion, poles)
    if refit == "white":
        criterion = _without_data(criterion, budget)
    return StateMethod(
        name=name, criterion=criterion, refit=refit, poles=poles,
        measured=budget.scope == "measured",
    )  # fmt: skip


def _with_settings(criterion: Criterion, name: str, budget: Budget) -> Criterion:
    given = dict(budget.settings)
    if budget.scope in ("uniform", "global"):
        if not any(item.name == "pool" for item in fields(criterion)):  # type: ignore[arg-type]
            raise InputError(
                f"scope is {budget.scope!r}, and {name} says itself what is compared",
                allowed="auto, measured",
                next_step="magnitude, hinf and random can be compared either way",
            )
        given["pool"] = {"uniform": "layer", "global": "model"}[budget.scope]
    elif budget.scope not in (AUTO, "measured"):
        raise InputError(
            f"scope is {budget.scope!r} for states of S5 and S4D",
            allowed="auto, uniform, global, measured",
        )
    return with_settings(criterion, name, given, budget.seed)


def _without_data(criterion: Criterion, budget: Budget) -> Criterion:
    """Return a criterion that weighs nothing by data, as white noise tells no sensitivity."""
    if not isinstance(criterion, StateOBS):
        return criterion
    if budget.settings.get("weigh", "energy") != "energy":
        raise InputError(
            f"weigh is {budget.settings['weigh']!r}, and under white noise there is no data",
            allowed="weigh='energy', or compensate='full' with data",
        )
    return replace(criterion, weigh="energy")


def _refit_of(budget: Budget, criterion: Criterion, poles: Poles) -> Refit:
    wanted = budget.compensate
    if wanted == AUTO:
        return "full" if poles != "kept" else _usual_refit(criterion)
    if wanted == WHITE:
        return "white"
    if wanted in (NONE, ONCE) and poles == "kept":
        return "none" if wanted == NONE else "once"
    if wanted in (("C",), ("B", "C", "D")):
        return "readout" if wanted == ("C",) else "full"
    raise InputError(
        f"compensate is {wanted!r} for states of S5 and S4D",
        allowed="auto, full, readout, white" + ("" if poles != "kept" else ", once, none"),
    )


def _usual_refit(criterion: Criterion) -> Refit:
    """Return the refit that goes without saying: State-OBS scores a state by its cost after one."""
    return "full" if isinstance(criterion, StateOBS) else "none"


@dataclass(frozen=True)
class StatePlanner:
    """What a method knows of a dense model, computed once for all budgets."""

    model: nn.Module
    method: StateMethod
    rows: Rows | None
    run: PassConfig = field(default_factory=PassConfig)
    progress: Progress = silent

    def __post_init__(self) -> None:
        if self.rows is None and self.method.needs_data:
            raise InputError(
                f"{self.method.name} is fitted to data, and there is none",
                allowed="rows to calibrate on, or a method that needs none, such as last or aire",
                next_step="give rows of the kind the model was trained on",
            )

    @property
    def _part(self) -> Rows:
        if self.rows is None:
            raise InputError("there is no data to calibrate on")
        return self.rows

    @cached_property
    def sensitivity(self) -> dict[str, Tensor] | None:
        """How far each layer's errors move the outputs, where the method weighs by it."""
        if "sensitivity" not in self.method.criterion.needs:
            return None
        return calibrate.measure_sensitivity(
            self.model,
            self._part,
            centred=is_classifier(self.model),
            batch_size=self.run.at_once(BATCH_SIZE),
        )

    @cached_property
    def moments(self) -> dict[str, Moments] | None:
        """Second moments of every layer, where the method reads any."""
        method = self.method
        if method.refit == "white":
            layers = families.modes_of(self.model)
            return {modes.layer: calibrate.white_moments(modes) for modes in layers}
        if not (method.criterion.needs or method.measured or method.refit == "once"):
            return None
        found = calibrate.measure_moments(
            self.model, self._part, batch_size=self.run.at_once(BATCH_SIZE)
        )
        if self.sensitivity is None:
            return found
        return calibrate.with_sensitivity(self.model, found, self.sensitivity)

    @cached_property
    def scores(self) -> Scores:
        """One score per state."""
        found = self.method.criterion(families.modes_of(self.model), self.moments)
        if not self.method.measured or self.moments is None:
            return found
        return by_measured_loss(found, loss_curves(self.model, found, self.moments, self._part))

    def cut(self, budget: Budget) -> tuple[Cut, tuple[Finding, ...]]:
        """Return which states stay under a budget, by their scores, and what was excepted."""
        scores = self.scores
        wanted = [name for name in scores.values if budget.wants(name)]
        scores = replace(scores, values={name: scores.values[name] for name in wanted})
        cut, findings = allocate(scores, budget)
        method = {
            **cut.method, "name": self.method.name, "label": self.method.label,
            "refit": self.method.refit,
        }  # fmt: skip
        return replace(cut, method=method), findings

    def plan(self, budget: Budget) -> Plan:
        """Return what becomes of the model under a budget."""
        cut, findings = self.cut(budget)
        digest = families.model_digest(self.model)
        refits = self._refits(cut, digest)
        if refits is None:
            return Plan(cuts=(cut,), findings=findings, model_digest=digest)
        keep, compensation = refits
        values: dict[str, Tensor] = {}
        errors: dict[str, dict[str, float]] = {}
        for name, readout in compensation.readouts.items():
            layer = families.find_layers(self.model)[name]
            values |= surgery.readout_values(name, layer, keep[name], readout)
            findings += readout.findings
            errors[name] = {"before": readout.error[0], "after": readout.error[1]}
        return Plan(
            cuts=(replace(cut, keep=keep),), values=values, findings=findings,
            facts={"refit": compensation.settings, "errors": errors}, model_digest=digest,
        )  # fmt: skip

    def _refits(self, cut: Cut, digest: str) -> tuple[dict[str, Tensor], Compensation] | None:
        if self.method.refit == "none":
            return None
        if self.method.refit == "once":
            moments = self.moments or {}
            return cut.keep, surgery.refit(self.model, cut, moments)
        if self.method.refit == "white":
            return cut.keep, refit_white(self.model, cut, self.method.config)
        criterion = self.method.criterion
        asked = {STATE: {"budget": cut.budget, "method": cut.method}}
        return refit_by_layer(
            self.model, cut, self._part, self.method.config,
            # States are chosen again in each layer, on what the cut layers hand on.
            criterion=criterion if isinstance(criterion, StateOBS) else None,
            sensitivity=self.sensitivity, run=kept_for(self.run, digest, asked),
            progress=self.progress,
        )  # fmt: skip
