"""Budgets by what a model is to weigh: the smallest share of a unit that reaches a target."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from ssmith.core.budget import Budget, Target
from ssmith.core.errors import InputError, UnsupportedError
from ssmith.core.layers import STATE
from ssmith.evaluation.times import milliseconds_of
from ssmith.families import LTILayer, Site, sites, weigh
from ssmith.families.mamba.selective import SelectiveLayer
from ssmith.families.mamba2.grouped import GroupedLayer
from ssmith.spine.lti import StatePlanner, method_of

Counts = Mapping[str, int]
_TRIES = 24


def share_that_reaches(model: nn.Module, budget: Budget, target: Target, rows: Any) -> float:
    """Return the smallest share to remove that reaches a target.

    Parameters and bytes are counted by the units' tables, nothing is cut for it; the time of a
    step is measured on cut copies, median of several, and so is only as sure as the machine is
    quiet.
    """
    there = _sites(model, budget)
    counts = _counter(model, budget, there, rows)
    measure = _measure(model, target, budget.unit, there)
    most = target.of(measure({}))
    total = sum(site.coupling(budget.unit).count for site in there.values())
    tables = [site.coupling(budget.unit) for site in there.values()]
    low, high = 0, total - sum(max(table.least, table.per_block) for table in tables)
    if measure(counts(high / total)) > most:
        raise InputError(
            f"{target} cannot be reached by cutting {budget.unit}",
            allowed=f"at least {measure(counts(high / total)):g}",
            next_step="allow more, or cut another unit as well",
        )
    for _ in range(_TRIES):
        if high - low <= 1:
            break
        middle = (low + high) // 2
        if measure(counts(middle / total)) <= most:
            high = middle
        else:
            low = middle
    return 0.0 if measure({}) <= most else high / total


def _sites(model: nn.Module, budget: Budget) -> dict[str, Site]:
    found = {
        name: site
        for name, site in sites(model).items()
        if budget.wants(name)
        and any(item.unit == budget.unit and not item.target for item in site.couplings)
    }
    shrinks = [site for site in found.values() if "shrink" in site.coupling(budget.unit).modes]
    if not shrinks:
        raise UnsupportedError(
            f"{budget.unit} makes nothing smaller or faster",
            allowed="a share, a count or a pattern",
            next_step="state, head and neuron are units that go for good",
        )
    return found


def _counter(
    model: nn.Module, budget: Budget, there: Mapping[str, Site], rows: Any
) -> Callable[[float], Counts]:
    """Return how many units each site loses at a share."""
    if all(isinstance(site.view(), LTILayer) for site in there.values()):
        planner = StatePlanner(model, method_of(budget, has_data=rows is not None), rows)

        def ranked(share: float) -> Counts:
            keep = planner.cut(replace(budget, sparsity=share))[0].keep
            return {name: int((~mask).sum()) for name, mask in keep.items()}

        return ranked
    sizes = {name: site.coupling(budget.unit).count for name, site in there.items()}
    return lambda share: {name: round(share * size) for name, size in sizes.items()}


def _measure(
    model: nn.Module, target: Target, unit: str, there: Mapping[str, Site]
) -> Callable[[Counts], float]:
    timed = target.timed
    if timed:
        return lambda counts: milliseconds_of(_cut(model, unit, counts), timed)
    if target.quantity == "state_bytes":
        held = {name: state_bytes(site) for name, site in there.items()}
        each = {name: held[name] / site.coupling(unit).count for name, site in there.items()}
        dense = sum(held.values())
        return lambda counts: dense - sum(each[name] * gone for name, gone in counts.items())
    whole = {"parameters": parameters(model), "bytes": weight_bytes(model)}

    def left(counts: Counts) -> float:
        gone = [
            weigh(there[name].module, there[name].coupling(unit), count)[target.quantity]
            for name, count in counts.items()
        ]
        return float(whole[target.quantity] - sum(gone))

    return left


def parameters(model: nn.Module) -> int:
    """Return how many a model has."""
    return sum(item.numel() for item in model.parameters())


def weight_bytes(model: nn.Module) -> int:
    """Return the bytes of all that is saved of a model."""
    return sum(item.numel() * item.element_size() for item in model.state_dict().values())


def state_bytes(site: Site) -> int:
    """Return the bytes of a layer's state of one sequence: float32 at least, or complex."""
    view = site.view()
    size = next(site.module.parameters()).element_size()
    if isinstance(view, LTILayer):
        return 2 * size * site.coupling(STATE).count
    if isinstance(view, SelectiveLayer | GroupedLayer):
        # The engine carries it in float32 at least.
        return view.e * view.n * max(size, 4)
    raise UnsupportedError(
        f"the state of {site.name} is not counted by units of {site.family.name}",
        allowed="a target in parameters or bytes",
    )


def _cut(model: nn.Module, unit: str, counts: Counts) -> nn.Module:
    """Return a copy that lost so many units, whichever: its speed does not depend on them."""
    cut = copy.deepcopy(model)
    for name, site in sites(cut).items():
        if counts.get(name):
            coupling = site.coupling(unit)
            keep = torch.ones(coupling.per_block, coupling.count // coupling.per_block)
            keep[:, : counts[name] // coupling.per_block] = 0
            site.cut_(coupling, keep.bool().reshape(coupling.grid), "shrink")
    return cut
