"""Cuts of a model that stays on disk: which can be made block by block, and what they need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from ssmith.core.budget import Budget, Target
from ssmith.core.errors import UnsupportedError
from ssmith.core.names import spelled
from ssmith.families import Site
from ssmith.families.mamba.selective import SelectiveLayer
from ssmith.families.mamba2.grouped import GroupedLayer
from ssmith.families.registry import find_selective
from ssmith.spine.across import no_such_unit, sites_with
from ssmith.spine.choice import SELECTIVE, choose
from ssmith.spine.grouped import OF_GROUPS, choose_cut, for_layers
from ssmith.spine.reading import numbers_looked_at
from ssmith.spine.selective import can_refit
from ssmith.spine.sizes import summed_numbers
from ssmith.spine.tables import METHODS
from ssmith.units import unit_named


@dataclass(frozen=True, kw_only=True)
class PassSizes:
    """What the memory of a pass depends on.

    Inner channels and states of the largest layer that is cut, numbers that a stage sums, the
    method that runs all rows at once, if one does, and whether streams inside of layers are kept.
    """

    e: int
    n: int
    summed: int
    lockstep: str = ""
    keeps: bool = False


def needs_whole(budgets: Sequence[Budget]) -> str:
    """Return which of some cuts needs the whole model in memory, and why; empty if none does."""
    for budget in budgets:
        if len(budget.units) > 1:
            return f"{budget.unit} share a budget by the loss of the whole model"
        if unit_named(budget.unit).whole:
            return f"{budget.unit}: each one is tried by the loss of the whole model"
        if budget.scope == "measured":
            return f"{budget.unit}: its scope measures the loss of the whole model"
        if isinstance(budget.sparsity, Target) and budget.sparsity.timed:
            return f"{budget.unit}: the whole model is timed"
    return ""


def check_by_block(budgets: Sequence[Budget]) -> None:
    """Refuse cuts that need the whole model in memory."""
    reason = needs_whole(budgets)
    if reason:
        raise UnsupportedError(
            f"{reason}, and it stays on disk",
            allowed="cuts that are made block by block",
            next_step="prune it in memory, or choose another unit, scope or target",
        )


def pass_sizes(model: nn.Module, budgets: Sequence[Budget]) -> PassSizes:
    """Return what the memory of a pass for some budgets depends on."""
    found = []
    # What reaches a target is not known yet.
    shares = [
        replace(item, sparsity=0.5) if isinstance(item.sparsity, Target) else item
        for item in budgets
    ]
    selective = [budget for budget in shares if budget.unit in SELECTIVE]
    for budget in shares:
        for site in sites_with(model, budget).values():
            view = site.view()
            if isinstance(view, SelectiveLayer) and budget in selective:
                layers = find_selective(model).values()
                choice = choose(selective, refits=all(map(can_refit, layers)))
                summed = summed_numbers(choice, view)
                label = choice.label if choice.lockstep else ""
                return PassSizes(e=view.e, n=view.n, summed=summed, lockstep=label, keeps=True)
            found.append(_sizes(site, budget, view))
    if not found:
        raise no_such_unit(model, budgets[0])
    return max(found, key=lambda item: item.summed)


def _sizes(site: Site, budget: Budget, view: Any) -> PassSizes:
    """Return the sizes of a layer whose output map is looked at, and its second moments."""
    if isinstance(view, GroupedLayer):
        width: int = view.mixer.out_proj.weight.shape[0]
        states = view.g * view.n
        summed = view.e * (view.e + width) + states * view.n
        return PassSizes(e=view.e, n=states, summed=max(summed, _held(budget, view)))
    names = [item.output for item in site.couplings if item.unit == budget.unit and item.output]
    maps: list[Any] = [site.module.get_submodule(name) for name in names]
    e = max((part.weight.shape[1] for part in maps), default=0)
    if not names:
        table = site.coupling(budget.unit)
        e = table.count // table.per_block
        return PassSizes(e=e, n=0, summed=table.per_block * e * e)
    return PassSizes(e=e, n=0, summed=e * e)


def _held(budget: Budget, layer: GroupedLayer) -> int:
    """Return as how many summed numbers count those that a refit of reading rows looks at."""
    if budget.unit not in OF_GROUPS or spelled(budget.method) in METHODS:
        return 0
    if "C" not in for_layers(choose_cut(budget), [layer]).terms:
        return 0
    # A count may leave some layers whole.
    kept = layer.n if isinstance(budget.sparsity, int) else round((1 - budget.share) * layer.n)
    # They are held twice at most, the sums of other stages five times.
    return 2 * numbers_looked_at(layer, kept) // 5
