"""Budgets that several units share: each goes as far as the model's measured loss rises least."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import nn

from ssmith.allocate.projections import LossCurve, by_marginal_loss
from ssmith.artefact.portable import without_weights
from ssmith.calibrate import PassConfig
from ssmith.core.budget import AUTO, Budget, Target
from ssmith.core.errors import InputError, UnsupportedError
from ssmith.core.plan import Plan
from ssmith.core.progress import Progress
from ssmith.core.rows import Rows
from ssmith.core.unit import Coupling
from ssmith.evaluation.times import milliseconds_of
from ssmith.families import Site, model_digest, sites
from ssmith.spine.depth import Trials
from ssmith.spine.losses import held_out, loss_on
from ssmith.spine.reach import parameters, state_bytes, weight_bytes
from ssmith.spine.tables import plan_by_table, removed_counts
from ssmith.surgery import prune_
from ssmith.units import unit_named

SHARES = (0.125, 0.25, 0.5, 0.75)
"""Of each unit, at which losses are measured."""
_ALLOWED: dict[str, tuple[Any, ...]] = {
    "settings": ({},), "scope": (AUTO, "uniform", "measured"), "min_per_layer": (0,),
    "ties": ("exact",), "semantics": (None,),
}  # fmt: skip
_TRIES = 24
_FINE = 10**9
"""What a target that is no whole number is counted in."""


@dataclass(frozen=True, kw_only=True)
class _Choice:
    """One unit of some layers, which lose it alike; what goes at most, and what all of it weighs.

    ``losses`` are the model's by the share that goes, of this unit alone.
    """

    budget: Budget
    layers: int
    shares: tuple[float, ...]
    step: int
    losses: dict[float, float] = field(default_factory=dict)

    def at(self, share: float) -> list[Budget]:
        """Return the budget of a share, in whole units; none of nothing."""
        whole = math.ceil(share * self.step - 1e-6) / self.step
        return [replace(self.budget, sparsity=min(whole, self.shares[-1]))] if whole else []


@dataclass(frozen=True, kw_only=True)
class Across:
    """Shares budgets out between units of a model.

    ``decide`` makes a plan of budgets, ``met`` are those that go first, and ``facts`` tells
    of every budget that was shared out.
    """

    model: nn.Module
    rows: Rows | None
    config: PassConfig
    progress: Progress
    decide: Callable[..., Plan]
    met: list[Budget] = field(default_factory=list)
    facts: list[dict[str, Any]] = field(default_factory=list)

    def shared(self, budget: Budget) -> list[Budget]:
        """Return a budget for each unit that together meet one, at the least measured loss.

        Every unit is cut alone, by a few shares; along the convex hulls of these losses the budget
        is filled where they rise least for what they save. What the result weighs is counted on a
        copy that is cut in all units, or its step is timed.
        """
        target = budget.sparsity
        assert isinstance(target, Target)
        budget.refuse_beside(_ALLOWED, of=budget.unit)
        if self.rows is None:
            raise InputError(
                f"{budget.unit} share a budget by measured losses, and there is no data",
                next_step="give rows of the kind the model was trained on",
            )
        weigh = _scale(self.model, target)
        start = weigh(self.met)
        most = target.of(weigh([]))
        choices = _choices(self.model, budget)
        spared = {
            name: (start - weigh([*self.met, *item.at(1.0)])) / item.shares[-1]
            for name, item in choices.items()
        }
        _refuse_idle(target, spared)
        self._measure(choices)
        found = self._filled(target, choices, spared, weigh, most)
        self._tell(target, choices, found, weigh)
        return [item for own in found.values() for item in own]

    def _measure(self, choices: Mapping[str, _Choice]) -> None:
        """Cut each unit alone, and note the model's loss on rows that nothing was fitted to."""
        assert self.rows is not None
        fitted, unseen = held_out(self.rows)
        size = self.config.batch_size
        loss, done = loss_on(self.model, unseen, size), 0
        alone = PassConfig(batch_size=size, kept_gb=self.config.kept_gb)
        place = self.config.work_dir and self.config.work_dir / f"shared-{len(self.facts) + 1}"
        trials = Trials.open(
            place, {"model": model_digest(self.model), "rows": self.rows.fingerprint,
                    "budgets": {name: item.budget.as_dict() for name, item in choices.items()}},
        )  # fmt: skip

        def cut(budgets: list[Budget]) -> float:
            work = copy.deepcopy(self.model)
            prune_(work, self.decide(self.model, budgets, fitted, run=alone))
            return loss(work)

        total = sum(len(item.shares) for item in choices.values())
        whole = trials.loss("", lambda: loss(self.model))
        for name, item in choices.items():
            item.losses[0.0] = whole
            for share in item.shares:
                self.progress("trying cuts", done, total, f"{share:g} of {name}")
                measure = partial(cut, item.at(share))
                item.losses[share] = trials.loss(f"{name}={share:g}", measure)
                done += 1
        self.progress("trying cuts", total, total, "")

    def _filled(
        self,
        target: Target,
        choices: Mapping[str, _Choice],
        spared: Mapping[str, float],
        weigh: Callable[[Sequence[Budget]], float],
        most: float,
    ) -> dict[str, list[Budget]]:
        """Return the budgets that just meet a target, along the curves of what was measured."""
        unit = _FINE if target.timed else 1
        curves = {
            name: LossCurve(
                size=max(round(unit * spared[name]), 1),
                sparsities=torch.tensor(list(item.losses), dtype=torch.float64),
                losses=torch.tensor(list(item.losses.values()), dtype=torch.float64),
            )
            for name, item in choices.items()
        }
        whole = sum(curve.size for curve in curves.values())
        ends = sum(int(curves[name].size * item.shares[-1]) for name, item in choices.items())

        def at(amount: int) -> dict[str, list[Budget]]:
            shares = by_marginal_loss(curves, amount / whole)
            return {name: choices[name].at(share) for name, share in shares.items()}

        def left(amount: int) -> float:
            return weigh([*self.met, *(item for own in at(amount).values() for item in own)])

        low, high = 0, ends
        if left(high) > most:
            raise InputError(
                f"{target} cannot be reached by cutting {' and '.join(choices)}",
                allowed=f"at least {left(high):g}",
                next_step="allow more, or let another unit share it",
            )
        for _ in range(_TRIES):
            if high - low <= 1:
                break
            middle = (low + high) // 2
            low, high = (low, middle) if left(middle) <= most else (middle, high)
        return at(0 if left(0) <= most else high)

    def _tell(
        self,
        target: Target,
        choices: Mapping[str, _Choice],
        found: Mapping[str, Sequence[Budget]],
        weigh: Callable[[Sequence[Budget]], float],
    ) -> None:
        """Note what each unit gave, one after the other."""
        done, units = list(self.met), []
        before = weigh(done)
        first = before
        for name, own in found.items():
            item = choices[name]
            done += own
            after = weigh(done)
            units.append({
                "unit": name, "layers": item.layers, "share": own[0].share if own else 0.0,
                "gives": before - after, "losses": [list(pair) for pair in item.losses.items()],
            })  # fmt: skip
            before = after
        self.facts.append(
            {"quantity": target.quantity, "before": first, "after": before, "units": units}
        )


def sites_with(model: nn.Module, budget: Budget) -> dict[str, Site]:
    """Return the sites that a budget cuts."""
    return {name: site for name, site in sites(model).items() if _has(site, budget)}


def no_such_unit(model: nn.Module, budget: Budget) -> UnsupportedError:
    """Return the error for a unit that no layer of a model has."""
    there = {coupling.unit for site in sites(model).values() for coupling in site.couplings}
    return UnsupportedError(
        f"{type(model).__name__} has no {budget.unit} that can be cut"
        + (f" in {', '.join(budget.targets)}" if budget.targets else ""),
        allowed=", ".join(sorted(there)) or "models with state space layers",
        next_step="`ssmith inspect` shows what a model has",
    )


def _has(site: Site, budget: Budget) -> bool:
    return any(
        coupling.unit == budget.unit
        and any(budget.wants(name) for name in _names_of(site, coupling.target))
        for coupling in site.couplings
    )


def _names_of(site: Site, target: str) -> tuple[str, str]:
    return site.name, f"{site.name}.{target.removesuffix('.weight')}"


def _choices(model: nn.Module, budget: Budget) -> dict[str, _Choice]:
    """Return what can be chosen between: units, or units of single layers."""
    found = {}
    for unit in budget.units:
        own = replace(budget, unit=unit, sparsity=0.5, scope=AUTO)
        there = sites_with(model, own)
        if not there or unit_named(unit).whole or "shrink" not in unit_named(unit).modes:
            raise UnsupportedError(
                f"{unit} cannot share a budget here",
                allowed="units of the model's layers that make them smaller",
                next_step="`ssmith inspect` shows what a model has; blocks have a budget of "
                "their own",
            )
        parts = [{name: site} for name, site in there.items()]
        for part in parts if budget.scope == "measured" else [there]:
            name = unit if len(part) > 1 or len(there) == 1 else f"{unit} of {next(iter(part))}"
            targets = own.targets if part is there else tuple(part)
            found[name] = _choice(replace(own, targets=targets), part)
    return found


def _choice(budget: Budget, there: Mapping[str, Site]) -> _Choice:
    """Return the shares that can go of some layers' units."""
    tables = {name: site.coupling(budget.unit) for name, site in there.items()}
    step, shares = _possible(tables, budget.unit, SHARES)
    if not shares:
        raise UnsupportedError(
            f"{budget.unit}: no share of it can go",
            allowed=f"units of which one of {', '.join(f'{share:g}' for share in SHARES)} can",
            next_step="leave it out",
        )
    return _Choice(budget=budget, layers=len(there), shares=shares, step=step)


def shares_that_go(model: nn.Module, unit: str, shares: Sequence[float]) -> tuple[float, ...]:
    """Return those of some shares of a unit that every layer can lose, in whole units."""
    there = sites_with(model, Budget(unit, 0.5))
    return _possible({name: site.coupling(unit) for name, site in there.items()}, unit, shares)[1]


def _possible(
    tables: dict[str, Coupling], unit: str, shares: Sequence[float]
) -> tuple[int, tuple[float, ...]]:
    """Return how many units the largest layer has in each part, and which shares can go."""
    step = max((table.count // table.per_block for table in tables.values()), default=0)
    found: list[float] = []
    for share in shares:
        with suppress(InputError):
            counts = removed_counts(tables, Budget(unit, share))
            found += [max(counts.values()) / step] if counts else []
    return step, tuple(dict.fromkeys(found))


def _scale(model: nn.Module, target: Target) -> Callable[[Sequence[Budget]], float]:
    """Return what weighs a model after some budgets, whichever units go."""
    of: dict[str, Callable[[nn.Module], float]] = {
        "parameters": parameters, "bytes": weight_bytes,
        "state_bytes": lambda cut: sum(
            state_bytes(site) for site in sites(cut).values() if site.family.kind == "ssm"
        ),
    }  # fmt: skip

    def weigh(budgets: Sequence[Budget]) -> float:
        cut = copy.deepcopy(model) if target.timed else without_weights(model)
        for budget in budgets:
            unit = unit_named(budget.unit)
            if unit.whole or "shrink" not in unit.modes:
                continue
            like = Budget(budget.unit, budget.sparsity, method="random")
            there = sites_with(cut, budget)
            for name, keep in plan_by_table(cut, there, like).cuts[0].keep.items():
                there[name].cut_(there[name].coupling(budget.unit), keep, "shrink")
        return milliseconds_of(cut, target.timed) if target.timed else of[target.quantity](cut)

    return weigh


def _refuse_idle(target: Target, spared: Mapping[str, float]) -> None:
    idle = [name for name, amount in spared.items() if amount <= 0]
    if idle:
        raise InputError(
            f"{' and '.join(idle)} give nothing to {target.quantity}",
            allowed="units that make it smaller", next_step="leave them out",
        )  # fmt: skip
