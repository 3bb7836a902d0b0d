"""How a pilot cuts copies of a model, by any method and at any sparsity."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from torch import Tensor, nn

from ssmith import api, spine
from ssmith.artefact.openers import check_opens
from ssmith.core.budget import AUTO, NONE, Budget
from ssmith.core.details import CutLayer
from ssmith.core.errors import InputError
from ssmith.core.pattern import Amount, Pattern, amount_as_json
from ssmith.core.plan import Plan
from ssmith.core.progress import Progress, silent
from ssmith.core.receipt import Receipt
from ssmith.core.rows import Rows
from ssmith.core.sections import MethodSection
from ssmith.evaluation.parity import max_difference
from ssmith.families import LTILayer, sites
from ssmith.families.mamba2.grouped import GroupedLayer
from ssmith.families.masks import masks_of
from ssmith.jobs.pilot.config import BESIDE, PilotConfig
from ssmith.spine.lti import StateMethod, StatePlanner, method_of
from ssmith.units import unit_named

AUTO_WITHOUT_DATA = "auto-data-free"
CANDIDATES = ("state-obs", "balanced", "aire", "last")
"""What ``auto`` chooses from for S5 and S4D, in order of preference where they are equally good."""
CANDIDATES_WITHOUT_DATA = ("aire", "last")
"""What ``auto`` chooses from where there are no rows to fit to."""
_SPARSITIES = {
    "state": (0.125, 0.25, 0.375, 0.5, 0.625, 0.75),
    "entry": (0.25, 0.5, 0.75, 0.9),
    "weight": (0.2, 0.3, 0.4, 0.5, 0.6),
    "entry and weight": (0.2, 0.3, 0.4, 0.5, 0.6),
}
_BASELINES = {
    "state": ("fastest-decay", "magnitude", "random"),
    "entry": ("fastest-decay", "magnitude", "random"),
    "weight": ("wanda", "sparsegpt", "magnitude"),
    "entry and weight": ("sparsessm", "magnitude"),
}
_GROUPED_BASELINES = ("ghost", "magnitude", "random")
_BESIDE_BASELINES = ("output-energy", "magnitude", "random")
_LTI_SPARSITIES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
_LTI_BASELINES = (
    "last", "aire", "hinf-global", "hinf-uniform", "lamp", "magnitude-global",
    "magnitude-uniform", "random",
)  # fmt: skip
# Of entries and weights a method names what scores entries; weights go by its nearest kin.
_KIN = {
    "sparsessm": "sparsegpt", "sparsessm-v1": "sparsegpt", "fastest-decay": "magnitude",
    "magnitude": "magnitude", "random": "random",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Made:
    """A cut that was made.

    The model is a copy; ``method`` says for the receipt how it was cut, and ``masked`` makes the
    dense model with the same units masked, None where they are masked anyway.
    """

    model: nn.Module
    plan: Plan
    done: Receipt
    layers: tuple[CutLayer, ...]
    method: MethodSection
    masked: Callable[[], nn.Module] | None

    @property
    def removed(self) -> float:
        """Share of all units that is gone."""
        counts = self.done.removed.values()
        return 1.0 - sum(item.after for item in counts) / sum(item.before for item in counts)


@dataclass
class Cutter:
    """Cuts copies of one dense model.

    The dense model is never changed; methods are fitted to the calibration rows, if there are any.
    """

    dense: nn.Module
    calibration: Rows | None
    config: PilotConfig
    _planners: dict[str, StatePlanner] = field(default_factory=dict, init=False)

    @cached_property
    def grouped(self) -> bool:
        """Whether states are those of Mamba-2's groups."""
        views = [site.view() for site in sites(self.dense).values()]
        return any(isinstance(view, GroupedLayer) for view in views)

    @property
    def fitted(self) -> bool:
        """Whether layers are S5 or S4D, whose statistics serve every sparsity."""
        return any(isinstance(module, LTILayer) for module in self.dense.modules())

    def usual(self) -> tuple[tuple[float, ...], tuple[str, ...]]:
        """Return the usual sparsities and baselines."""
        units, group = " and ".join(self.config.units), self.config.group
        if self.fitted:
            return _LTI_SPARSITIES, _LTI_BASELINES
        if units in BESIDE:
            usual = _SPARSITIES["state"]
            return spine.shares_that_go(self.dense, units, usual), _BESIDE_BASELINES
        if self.grouped:
            return _SPARSITIES["state"], _GROUPED_BASELINES
        patterns = () if group is None else tuple(gone / group for gone in range(1, group))
        return patterns or _SPARSITIES[units], _BASELINES[units]

    def candidates(self) -> tuple[str, ...]:
        """Return the names of the methods from which the one that cuts is chosen."""
        if not self.fitted:
            return (self.config.method,)
        some = {AUTO: CANDIDATES, AUTO_WITHOUT_DATA: CANDIDATES_WITHOUT_DATA}
        return some.get(self.config.method.strip().lower(), (self.config.method,))

    def methods(self) -> dict[str, str]:
        """Return all methods to measure, label → name, each once, the candidates first."""
        found: dict[str, str] = {}
        for name in (*self.candidates(), *(self.config.baselines or ())):
            found.setdefault(self.label(name), name)
        return found

    def label(self, method: str) -> str:
        """Return what a method is called in plots and tables."""
        budgets = self.budgets(method, (self.config.sparsities or (0.5,))[0])
        return spine.label_of(self.dense, budgets)

    def check(self) -> None:
        """Raise what any cut of the sweep would raise for its settings, before any work."""
        if self.fitted and self.config.units != ("state",):
            units = ", ".join(self.config.units)
            raise InputError(f"units are {units} of S5 and S4D layers", allowed="state")
        for name in self.methods().values():
            if self.calibration is None and self.needs_rows(name):
                raise InputError(
                    f"{name} is fitted to rows and there are none",
                    next_step="give data with a train split, or rows for 'calibration'",
                )
            for sparsity in self.config.sparsities or ():
                budgets, target = self.budgets(name, sparsity), self.config.target
                spine.label_of(self.dense, budgets)
                if target != "engine" and name in self.candidates():
                    check_opens(target, self.dense, spine.outline(self.dense, budgets))

    def needs_rows(self, method: str) -> bool:
        """Return whether a method is fitted to rows."""
        return not self.fitted or self._method(self.budgets(method, 0.5)[0]).needs_data

    def make(
        self, method: str, sparsity: float, *, terms: str = "", progress: Progress = silent
    ) -> Made:
        """Cut a copy of the dense model."""
        budgets, scores = self.budgets(method, sparsity, terms), dict[str, list[float]]()
        if self.fitted:
            planner = self._planner(method)
            plan = planner.plan(budgets[0])
            scores = {name: item.flatten().tolist() for name, item in planner.scores.values.items()}
        else:
            plan = spine.plan(self.dense, budgets, self.calibration, progress=progress)
        model, unit = copy.deepcopy(self.dense), unit_named(self.config.units[0])
        whole = unit.modes[0] == "shrink"
        masks = "mask" in unit.modes and plan.cuts[0].semantics == "remove"
        done = api.prune_(model, plan)

        def masked() -> nn.Module:
            twin = copy.deepcopy(self.dense)
            api.prune_(twin, plan, "mask")
            return twin

        return Made(
            model=model,
            plan=plan,
            done=done,
            layers=tuple(
                _row(name, keep, scores.get(name, ()), shown=unit_named(cut.unit).listed)
                for cut in plan.cuts
                for name, keep in cut.keep.items()
            ),
            method=MethodSection(
                mode="shrink" if whole else "mask",
                budget={item.unit: amount_as_json(self._amount(sparsity)) for item in budgets},
                criterion={**plan.cuts[0].method, "name": self.label(method)},
                refit=plan.facts.get("refit") or {},
            ),
            masked=masked if whole and masks else None,
        )

    def budgets(self, method: str, sparsity: float, terms: str = "") -> list[Budget]:
        """Return one cut of the sweep as budgets."""
        units, seed = self.config.units, self.config.seed
        amount, own = self._amount(sparsity), method in self.candidates()
        made_up = own and self.config.compensate == AUTO
        if self.fitted:
            # A baseline is what its authors made of it, State-OBS with its refit.
            how: str = NONE if own and not made_up else AUTO
            return [Budget("state", amount, method=method, compensate=how, seed=seed)]
        if isinstance(amount, Pattern) and unit_named(units[0]).modes[0] == "shrink":
            raise InputError(
                f"group goes with {units[0]}", allowed="entry, weight or both",
                next_step="what goes for good is cut by shares: leave group out",
            )  # fmt: skip
        if units == ("state",):
            refitted = "O" if self.grouped else "C" + terms
            how = (refitted if terms else AUTO) if made_up else NONE
            return [Budget("state", amount, method=method, compensate=how, seed=seed)]
        if units[0] in BESIDE:
            how = AUTO if made_up else NONE
            return [Budget(units[0], amount, method=method, compensate=how, seed=seed)]
        found = []
        if "entry" in units:
            how = (terms or "D") if made_up else NONE
            found.append(Budget("entry", amount, method=method, compensate=how, seed=seed))
        if "weight" in units:
            name = _KIN.get(method, "obs") if "entry" in units else method
            found.append(Budget("weight", amount, method=name, seed=seed))
        return found

    def _planner(self, method: str) -> StatePlanner:
        if method not in self._planners:
            how = self._method(self.budgets(method, 0.5)[0])
            rows: Any = self.calibration
            self._planners[method] = StatePlanner(self.dense, how, rows if how.needs_data else None)
        return self._planners[method]

    def _method(self, budget: Budget) -> StateMethod:
        return method_of(budget, has_data=True)

    def _amount(self, sparsity: float) -> Amount:
        group = self.config.group
        if group is None:
            return sparsity
        keep = round((1 - sparsity) * group)
        if abs(keep - (1 - sparsity) * group) > 1e-6 or not 1 <= keep < group:
            raise InputError(
                f"{sparsity:g} of groups of {group}",
                allowed=", ".join(f"{gone / group:g}" for gone in range(1, group)),
            )
        return Pattern(keep=keep, of=group)


def cut_difference(model: nn.Module, plan: Plan) -> float:
    """Return by how much what was cut from a model is not as the cut left it.

    The largest difference of a cut entry from the value it was given, infinity where one is free
    again; of units that are gone, how many too many or too few a layer has.
    """
    held = {name: (mask, fill) for name, mask, fill in masks_of(model)}
    there, parameters = sites(model), dict(model.named_parameters())
    worst = 0.0
    for cut in plan.cuts:
        for name, keep in cut.keep.items():
            if name in there and there[name].coupling(cut.unit).modes[0] == "shrink":
                left = there[name].coupling(cut.unit).count
                worst = max(worst, float(abs(left - int(keep.sum()))))
                continue
            own = name if name in parameters else f"{name}.A_log"
            mask, fill = held.get(own, (keep | True, 0.0))
            if bool(mask.cpu()[~keep].any()):
                return float("inf")
            value = parameters[own].detach().cpu()[~keep]
            worst = max(worst, max_difference(value, value.new_full(value.shape, fill)))
    return worst


def _row(name: str, keep: Tensor, scores: Sequence[float], *, shown: bool) -> CutLayer:
    """Return what went of a layer; masks of single weights would be too many to show."""
    return CutLayer(
        name=name,
        grid=tuple(keep.shape),
        before=keep.numel(),
        after=int(keep.sum()),
        scores=tuple(scores),
        kept=tuple(keep.flatten().tolist()) if shown else (),
    )
