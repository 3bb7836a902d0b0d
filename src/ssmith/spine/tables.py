"""Plans for any unit by its table alone: baselines that see no data."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float64
from torch import Tensor, nn

from ssmith.allocate.ranking import apportion
from ssmith.core.budget import AUTO, NONE, Budget
from ssmith.core.errors import InputError
from ssmith.core.findings import Finding
from ssmith.core.names import spelled
from ssmith.core.pattern import keep_largest
from ssmith.core.plan import Cut, Plan
from ssmith.core.seeds import generator
from ssmith.core.unit import Coupling
from ssmith.criteria import unknown_method
from ssmith.families import Site
from ssmith.families.absent import held

_ALLOWED: dict[str, tuple[Any, ...]] = {
    "settings": ({},), "scope": (AUTO, "uniform"), "compensate": (AUTO, NONE),
    "min_per_layer": (0,), "ties": ("exact",), "semantics": (None, "remove"),
}  # fmt: skip
METHODS = {"magnitude": "Magnitude of all that goes", "random": "Random"}


def plan_by_table(
    model: nn.Module, sites: dict[str, Site], budget: Budget, digest: str = ""
) -> Plan:
    """Decide which units of some layers go, by the size of their tensors or by chance.

    A unit's score is the mean square of every number that goes with it, each tensor's on the scale
    of that tensor. Every layer loses the same share, and as many from each part that must stay
    equal.

    Source: magnitude pruning of coupled structures, as usual.
    Differs: tensors of different scale count alike.
    """
    method = spelled(budget.method)
    findings: tuple[Finding, ...] = ()
    if method == AUTO:
        method = "magnitude"
        message = f"{budget.unit} is cut by magnitude, a baseline: nothing was measured on data"
        findings = (Finding(layer="", kind="baseline", message=message),)
    if method not in METHODS:
        raise unknown_method(method, f"{budget.unit} of these layers", METHODS)
    budget.refuse_beside(_ALLOWED, of=f"{budget.unit} of these layers")
    if budget.pattern is not None:
        raise InputError(f"sparsity is {budget.pattern}", allowed="a share or a count")
    tables = {name: site.coupling(budget.unit) for name, site in sites.items()}
    counts = removed_counts(tables, budget)
    keep = {}
    for name, table in tables.items():
        if method == "magnitude":
            with held(model, name) as module:
                scores = _magnitude(module, table)
        else:
            draw = generator(budget.seed, budget.unit, name)
            scores = torch.rand(table.count, generator=draw).double()
        keep[name] = _best(scores, table, counts[name])
    cut = Cut(
        unit=budget.unit, keep=keep, budget=budget.as_dict(),
        method={"name": method, "label": METHODS[method]},
    )  # fmt: skip
    return Plan(cuts=(cut,), findings=findings, model_digest=digest)


def removed_counts(tables: dict[str, Coupling], budget: Budget) -> dict[str, int]:
    """Return how many units each layer loses from each of its parts; raise if too few are left."""
    found = _removed_counts(tables, budget)
    for name, gone in found.items():
        table = tables[name]
        left = table.count - gone * table.per_block
        if left < table.least:
            raise InputError(
                f"{left} {table.unit} would be left in {name}",
                allowed="; ".join((f"at least {table.least}", *table.notes)),
                next_step="remove fewer",
            )
    return found


def _removed_counts(tables: dict[str, Coupling], budget: Budget) -> dict[str, int]:
    sizes = [table.count // table.per_block for table in tables.values()]
    if isinstance(budget.sparsity, int):
        parts = {table.per_block for table in tables.values()}
        if len(parts) > 1 or budget.sparsity % next(iter(parts)):
            raise InputError(
                f"{budget.sparsity} {budget.unit} are to go", allowed=f"multiples of {max(parts)}"
            )
        most = [size - 1 for size in sizes]
        each = apportion(sizes, budget.sparsity // parts.pop(), least=[0] * len(sizes), most=most)
        return dict(zip(tables, each, strict=True))
    found = {name: round(budget.share * size) for name, size in zip(tables, sizes, strict=True)}
    for (name, gone), size in zip(found.items(), sizes, strict=True):
        if not 0 < gone < size:
            raise InputError(
                f"{budget.share:g} of {size} {budget.unit} in {name} is "
                f"{'all of them' if gone else 'none'}",
                allowed=f"{1 / size:.3g} to {1 - 1 / size:.3g}",
            )
    return found


def _magnitude(module: nn.Module, table: Coupling) -> Float64[Tensor, "u"]:
    """Return the mean square of each unit's numbers, those of each tensor on its own scale."""
    total = torch.zeros(table.count, dtype=torch.float64)
    count = torch.zeros(table.count, dtype=torch.float64)
    units = torch.arange(table.count)
    for item in table.slices:
        path, _, last = item.parameter.rpartition(".")
        value: Tensor = getattr(module.get_submodule(path), last).detach().double().cpu()
        if item.dim is None or last in ("A_log", "state_mask"):
            continue
        lines = item.lines(value.square())
        rows = lines.reshape(len(lines), -1).mean(1)
        owned = rows[item.places(units)]
        total += owned.sum(1) / rows.mean().clamp(min=1e-300)
        count += owned.shape[1]
    return total / count.clamp(min=1)


def _best(scores: Float64[Tensor, "u"], table: Coupling, removed: int) -> Bool[Tensor, "..."]:
    parts = scores.view(table.per_block, -1)
    return keep_largest(parts, removed).reshape(table.grid)
