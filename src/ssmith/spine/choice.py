"""What is cut from selective layers, with nothing left to choose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ssmith.core.budget import AUTO, NONE, ONCE, WHITE, Budget, Target
from ssmith.core.checks import check_choice, check_number
from ssmith.core.errors import InputError, UnsupportedError
from ssmith.core.names import spelled
from ssmith.core.pattern import Pattern
from ssmith.core.selective import check_entry_semantics
from ssmith.core.settings import to_mapping
from ssmith.criteria import by_name, with_settings
from ssmith.criteria.selective import Scoring, SelectiveCriterion
from ssmith.criteria.weights import WeightCriterion
from ssmith.families.mamba.units import PROJECTIONS

SELECTIVE = ("state", "entry", "weight")
"""Units of selective layers that methods with data know, in the order of a pass."""
AFTER_REFIT = "refit-greedy"
WITHOUT_REFIT = "gram-greedy"
OFFSETS = frozenset("Dhy")
"""Terms that are fitted to what a cut of states took from a layer's output."""
Rows = Literal["none", "C", "CB"]
Spread = Literal["spare-conv", "uniform", "cost", "measured", "sensitivity", "sensitivity-trace"]
_PASS_SETTINGS = ("width", "refresh")


@dataclass(frozen=True, kw_only=True)
class States:
    """A cut of states or of entries.

    Args:
        budget: what was asked for.
        method: criterion by name.
        criterion: the same, with its settings.
        scoring: what of it scores the unit.
        rows: new rows of the projection that makes C, or C and B; ``"none"`` for entries.
        terms: letters of what is refitted to the layer's output: D, h, y.
        by_cost: whether layers lose unequal shares, where that costs least.
        semantics: what a cut unit does.
    """

    budget: Budget
    method: str
    criterion: SelectiveCriterion
    scoring: Scoring
    rows: Rows = "none"
    terms: str = ""
    by_cost: bool = False
    semantics: str = "remove"

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dict."""
        scope = "cost" if self.by_cost else "uniform"
        asked = {"rows": self.rows, "terms": self.terms, "scope": scope}
        return _described(self.method, self.criterion, asked)


@dataclass(frozen=True, kw_only=True)
class Weights:
    """A cut of weights of the projections.

    Args:
        budget: what was asked for.
        method: ``obs`` (weights make up for removed ones, then a refit), ``sparsegpt`` (the same
            as published, without refit), ``wanda``, ``magnitude`` or ``random``.
        criterion: the same, with its settings.
        scope: ``spare-conv``: conv1d, whose few weights cost the most, stays whole and the others
            lose as much more; ``uniform``; ``cost``: where the relative error of the projections'
            own outputs rises least; ``sensitivity``: of in_proj and of out_proj as SparseSSM's code
            does, or with the true trace (``sensitivity-trace``); ``measured``: where the loss on
            held-out calibration windows rises least, which takes the longest.
        width: α of the scope ``sensitivity``, ≥ 0.
        refresh: look at the inputs again after every ``projection``, or once per ``block``.
    """

    budget: Budget
    method: str
    criterion: WeightCriterion
    scope: Spread
    width: float = 0.04
    refresh: Literal["projection", "block"] = "projection"

    @property
    def amount(self) -> float | Pattern:
        """What each projection loses on average."""
        return self.budget.pattern or self.budget.share

    def of(self, site: str) -> tuple[str, ...]:
        """Return the projections of a site that are cut, in the order data flows through them."""
        return tuple(name for name in PROJECTIONS if self.budget.wants(f"{site}.{name}"))

    def spares(self, site: str) -> bool:
        """Whether conv1d of a site is a target that stays whole."""
        named = self.of(site)
        return self.scope == "spare-conv" and "conv1d" in named and len(named) > 1

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dict."""
        asked = {"scope": self.scope, "width": self.width, "refresh": self.refresh}
        return _described(self.method, self.criterion, asked)


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Everything that is cut from selective layers, in the order in which it is cut."""

    state: States | None = None
    entry: States | None = None
    weight: Weights | None = None

    @property
    def terms(self) -> str:
        """Letters of the terms that are refitted to the output after states and entries."""
        wanted = {letter for cut in (self.state, self.entry) if cut for letter in cut.terms}
        return "".join(sorted(wanted))

    @property
    def lockstep(self) -> bool:
        """Whether a criterion needs all windows in one batch, and none of them padded."""
        return any(cut.scoring.lockstep for cut in (self.state, self.entry) if cut)

    @property
    def label(self) -> str:
        """What cuts, in words."""
        found = [cut.criterion.label for cut in (self.state, self.entry) if cut]
        if self.weight is not None:
            found.append(f"{self.weight.criterion.label} on weights")
        return ", ".join(dict.fromkeys(found))

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dict: of each unit, what was asked for and what chooses."""
        parts = {"state": self.state, "entry": self.entry, "weight": self.weight}
        return {
            unit: {"budget": cut.budget.as_dict(), "method": cut.as_dict()}
            for unit, cut in parts.items()
            if cut is not None
        }


def _described(
    method: str, criterion: SelectiveCriterion | WeightCriterion, asked: dict[str, Any]
) -> dict[str, Any]:
    return {"name": method, "label": criterion.label, **to_mapping(criterion), **asked}


def choose(budgets: Sequence[Budget], *, refits: bool) -> Choice:
    """Return what budgets ask of selective layers."""
    units = [budget.unit for budget in budgets]
    known = [unit for unit in SELECTIVE if unit in units]
    if units != known:
        raise UnsupportedError(
            f"selective layers are cut by {', '.join(units)}",
            allowed="state, entry and weight, each once and in this order, in one plan",
            next_step="make one plan after the other for anything else",
        )
    by_unit = {budget.unit: budget for budget in budgets}
    for budget in budgets:
        if isinstance(budget.sparsity, Target):
            raise InputError(f"{budget.unit} has the target {budget.sparsity}, not yet a share")
    return Choice(
        state=_of_states(by_unit["state"], refits=refits) if "state" in by_unit else None,
        entry=_of_entries(by_unit["entry"]) if "entry" in by_unit else None,
        weight=_of_weights(by_unit["weight"]) if "weight" in by_unit else None,
    )


def _of_states(budget: Budget, *, refits: bool) -> States:
    if budget.pattern is not None:
        raise InputError(
            f"sparsity of state is {budget.pattern}", allowed="a share in (0, 1), or a count",
            next_step="patterns are for entry and weight",
        )  # fmt: skip
    _refuse(budget, {"semantics": (None, "remove")})
    method = AFTER_REFIT if refits else WITHOUT_REFIT
    method = method if spelled(budget.method) == AUTO else spelled(budget.method)
    criterion = _criterion(method, budget)
    scoring = criterion.columns
    if scoring is None:
        raise InputError(
            f"{method} is not defined for whole states",
            allowed="output-energy, gram-greedy, refit-greedy, sparsessm-v1 and the baselines",
            next_step="choose one of these, or cut entry",
        )
    rows: Rows = "C" if refits and method == AFTER_REFIT else "none"
    terms = _default_terms(budget)
    if budget.compensate != AUTO:
        letters = budget.terms
        if "B" in letters and "C" not in letters:
            raise InputError("compensate is 'B'", allowed="B together with C")
        rows = "CB" if "B" in letters else "C" if "C" in letters else "none"
        terms = "".join(sorted(letters & OFFSETS))
    return States(
        budget=budget, method=method, criterion=criterion, scoring=scoring, rows=rows, terms=terms,
        by_cost=_by_cost(budget, usual=False, scores_output=True, label=criterion.label),
    )  # fmt: skip


def _of_entries(budget: Budget) -> States:
    method = WITHOUT_REFIT if spelled(budget.method) == AUTO else spelled(budget.method)
    criterion = _criterion(method, budget)
    if budget.terms - OFFSETS:
        raise InputError(
            f"compensate is {budget.compensate!r} for entries",
            allowed="auto, none, or any of D, h, y: entries share B and C with others",
        )
    _refuse(budget, {})
    semantics = budget.semantics or "memoryless"
    check_entry_semantics(semantics)
    scoring, label = criterion.entries, criterion.label
    by_cost = _by_cost(
        budget, usual=scoring.of_output, scores_output=scoring.of_output, label=label
    )
    named = "".join(sorted(budget.terms))
    return States(
        budget=budget, method=method, criterion=criterion, scoring=scoring, semantics=semantics,
        terms=_default_terms(budget) if budget.compensate == AUTO else named,
        by_cost=by_cost and budget.pattern is None,
    )  # fmt: skip


def _default_terms(budget: Budget) -> str:
    """D where the method is left to choose, so that a method that is named is that alone."""
    return "D" if spelled(budget.method) == AUTO else ""


def _by_cost(budget: Budget, *, usual: bool, scores_output: bool, label: str) -> bool:
    if budget.scope not in (AUTO, "uniform", "cost"):
        raise InputError(
            f"scope is {budget.scope!r} for {budget.unit} of selective layers",
            allowed="auto, uniform, cost",
        )
    if budget.scope == "cost" and not scores_output:
        raise InputError(
            f"scope is 'cost', and {label} does not score what a layer's output loses",
            allowed="output-energy, gram-greedy, refit-greedy",
            next_step="take the scope uniform",
        )
    return usual if budget.scope == AUTO else budget.scope == "cost"


def _criterion(method: str, budget: Budget) -> SelectiveCriterion:
    found: SelectiveCriterion = by_name(method, "selective")
    return with_settings(found, method, budget.settings, budget.seed)


def _of_weights(budget: Budget) -> Weights:
    method = "obs" if spelled(budget.method) == AUTO else spelled(budget.method)
    found: WeightCriterion = by_name(method, "weight")
    if budget.compensate not in (AUTO, NONE) or (budget.compensate == NONE and method == "obs"):
        raise InputError(
            f"compensate is {budget.compensate!r} for weights",
            allowed="auto: the method says it (obs makes up for what goes, wanda does not)",
        )
    _refuse(budget, {"semantics": (None, "remove")})
    given = dict(budget.settings)
    own: dict[str, Any] = {name: given.pop(name) for name in _PASS_SETTINGS if name in given}
    counted = isinstance(budget.sparsity, int)
    usual = "uniform" if counted else "spare-conv"
    scope: Any = usual if budget.scope == AUTO else budget.scope
    check_choice(
        "scope", scope,
        ("spare-conv", "uniform", "cost", "measured", "sensitivity", "sensitivity-trace"),
    )  # fmt: skip
    check_choice("refresh", own.get("refresh", "projection"), ("projection", "block"))
    check_number("width", own.get("width", 0.0), at_least=0)
    made = Weights(
        budget=budget, method=method, scope=scope,
        criterion=with_settings(found, method, given, budget.seed), **own,
    )  # fmt: skip
    if counted and scope != "uniform":
        raise InputError(
            f"scope {scope!r} with {budget.sparsity} weights", allowed="uniform: each target's",
            next_step="give a share to remove",
        )  # fmt: skip
    if budget.pattern is not None and scope not in ("spare-conv", "uniform"):
        raise InputError(
            f"scope {scope!r} with the pattern {budget.pattern}",
            allowed="uniform: a pattern is the same everywhere",
        )
    return made


def _refuse(budget: Budget, more: Mapping[str, tuple[Any, ...]]) -> None:
    """Refuse what selective layers have no meaning for."""
    if budget.compensate in (ONCE, WHITE):
        raise InputError(
            f"compensate is {budget.compensate!r} for {budget.unit} of selective layers",
            allowed="auto, none, or terms that are refitted",
        )
    if {"O", "S"} & budget.terms:
        raise InputError(
            f"compensate is {budget.compensate!r} for {budget.unit} of selective layers",
            allowed="auto, none, or any of B, C, D, h, y",
            next_step="output maps are refitted where states of Mamba-2 go",
        )
    allowed = {"min_per_layer": (0,), "ties": ("exact",), **more}
    budget.refuse_beside(allowed, of=f"{budget.unit} of selective layers")
