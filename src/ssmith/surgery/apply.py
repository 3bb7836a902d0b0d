"""Do what a plan says: remove units or mask them, and write the values that go with it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from ssmith.core.details import CutDetails, CutLayer
from ssmith.core.errors import PlanError
from ssmith.core.names import unknown_name
from ssmith.core.plan import Cut, Plan
from ssmith.core.receipt import Receipt, versions
from ssmith.core.sections import (
    CutMade,
    MethodSection,
    ModelSection,
    Pair,
    SizeSection,
    UnitRemoved,
)
from ssmith.core.unit import MODES, Coupling, Mode
from ssmith.families import (
    Site,
    chain_of,
    model_digest,
    name_ties_,
    sites,
    spread,
    stock_configs,
    sync_config_,
    sync_depth_,
)
from ssmith.families.absent import held, source_of
from ssmith.families.hf.engine import accelerate_, needs_engine
from ssmith.families.parts.hooks import PER_STATE
from ssmith.families.registry import mixers
from ssmith.units import unit_named


def prune_(
    model: nn.Module, plan: Plan, mode: Mode | None = None, *, check_weights: bool = True
) -> Receipt:
    """Make of a dense model, in place, what a plan was made from: bit for bit.

    ``shrink`` removes units from the tensors; ``mask`` keeps every tensor and silences them, also
    under training. Both compute the same outputs. A model that gets offsets or projected states
    runs on the engine from then on, as stock code would leave them out. Either everything the plan
    says is done, or, if it does not fit, nothing.

    Args:
        model: changed in place.
        plan: what to keep, and every new value.
        mode: ``"shrink"`` or ``"mask"`` for all units; None for each unit's own way (entries and
            weights are masked, all else goes).
        check_weights: refuse a plan that was made for other weights.

    Returns:
        What was removed, with digests, tensors and parameters before and after.

    Raises:
        InputError: if the mode is unknown.
        PlanError: if the plan does not fit the model.
        UnsupportedError: if a unit cannot be cut in that mode.
    """
    if mode is not None and mode not in MODES:
        raise unknown_name(f"mode is {mode!r}", str(mode), MODES)
    before = model_digest(model)
    if check_weights and plan.model_digest != before:
        raise PlanError(
            f"the plan is for weights {plan.model_digest[:12]}…, the model has {before[:12]}…",
            allowed="the model the plan was made for",
            next_step="make the plan again, or pass check_weights=False to apply it anyway",
        )
    sizes = [_sizes(model)]
    counts = {cut.unit: [0, 0] for cut in plan.cuts}
    rest = _without_blocks_(model, plan, mode, counts)
    work = _sites_of(model, rest, alone=rest is not plan)
    for site in work:
        # On a copy first: what does not fit, leaves the model as it is.
        _cut_site_(site.copied(), mode)
    there = stock_configs(model)
    for site in work:
        _cut_site_(site, mode, counts)
    sync_config_(model, there)
    source = source_of(model)
    if source is not None:
        source.changed_by(partial(_cut_part_, work, mode))
    sizes.append(_sizes(model))
    if any(map(needs_engine, mixers(model)[0].values())):
        accelerate_(model)
    return receipt_of(model, plan, mode, counts=counts, sizes=sizes, before=before)


def receipt_of(
    model: nn.Module,
    plan: Plan,
    mode: Mode | None = None,
    *,
    counts: Mapping[str, Sequence[int]] | None = None,
    sizes: Sequence[Mapping[str, int]] = (),
    before: str = "",
) -> Receipt:
    """Return the receipt of a pruning.

    ``counts`` holds by unit how many were there before and after, those of the plan if None;
    ``sizes`` parameters and bytes before and after, if they are known.
    """
    there = sites(model)
    found = counts or {cut.unit: (cut.total, cut.kept) for cut in plan.cuts}
    return Receipt(
        action="prune",
        model=ModelSection(
            name=type(model).__name__,
            family=", ".join(sorted({site.family.name for site in there.values()})),
            layers=len(there),
            digest_before=before or plan.model_digest,
            digest_after=model_digest(model) if sizes else None,
        ),
        method=MethodSection(
            cuts=tuple(
                CutMade(
                    unit=cut.unit, method=cut.method, budget=cut.budget, semantics=cut.semantics
                )
                for cut in plan.cuts
            ),
            mode=mode or "each unit's own",
        ),
        seed=None,
        versions=versions(),
        removed={
            unit: UnitRemoved(before=old, after=new, fraction=1 - new / old if old else 0.0)
            for unit, (old, new) in found.items()
        },
        size=SizeSection(
            parameters=Pair.of([item["parameters"] for item in sizes]),
            tensor_bytes=Pair.of([item["tensor_bytes"] for item in sizes]),
        )
        if sizes
        else SizeSection(),
        findings=plan.findings,
        details=CutDetails(
            facts=plan.facts,
            layers=tuple(
                CutLayer(
                    name=name,
                    unit=cut.unit,
                    grid=tuple(keep.shape),
                    before=keep.numel(),
                    after=int(keep.sum()),
                )
                for cut in plan.cuts
                for name, keep in cut.keep.items()
            ),
        ),
    )


def _without_blocks_(
    model: nn.Module, plan: Plan, mode: Mode | None, counts: dict[str, list[int]]
) -> Plan:
    """Drop the blocks a plan begins with, and return what is left of it."""
    blocks = [cut for cut in plan.cuts if unit_named(cut.unit).whole]
    if not blocks:
        return plan
    site = chain_of(model)
    (cut,) = blocks if len(blocks) == 1 else (None,)
    keep = None if cut is None else cut.keep.get(site.name)
    coupling = site.coupling("block")
    if keep is None or plan.cuts[0] is not cut or tuple(keep.shape) != coupling.grid:
        raise PlanError(
            "the plan's cut of blocks does not fit the model",
            allowed=f"one, as the first cut, of {coupling.count} blocks in {site.name}",
            next_step="make the plan for this model",
        )
    rest = replace(plan, cuts=plan.cuts[1:])
    trial = copy.deepcopy(model)
    there = chain_of(trial)
    there.cut_(coupling, keep, mode)
    for work in _sites_of(trial, rest, alone=True):
        _cut_site_(work, mode)
    site.cut_(coupling, keep, mode)
    sync_depth_(model, keep)
    name_ties_(model)
    counts["block"] = [coupling.count, int(keep.sum())]
    return rest


def new_values(
    dense: nn.Module, cuts: Iterable[Cut], after: Callable[[str], Mapping[str, Tensor]]
) -> dict[str, Tensor]:
    """Return every tensor of cut sites that is not just the dense one cut.

    With the cuts, these values by dotted name make a complete plan. ``after`` returns a site's
    tensors after the cuts, as in its ``state_dict``.
    """
    plan = Plan(cuts=tuple(cuts), model_digest="")
    found = {}
    for work in _sites_of(dense, plan):
        with held(dense, work.site.name, own=True) as module:
            _cut_site_(work.of(module), None)
            own = module.state_dict()
        for name, value in after(work.site.name).items():
            there: Tensor | None = own.get(name)
            if (
                there is None
                or there.shape != value.shape
                or not torch.equal(there, value.to(there))
            ):
                found[f"{work.site.name}.{name}"] = value.detach().cpu().clone()
    return found


@dataclass(frozen=True)
class _Work:
    """One site with what is to be done to it: in order, what of which cut; then its new values."""

    site: Site
    steps: tuple[tuple[Cut, str, Bool[Tensor, "..."]], ...]
    values: Mapping[str, Tensor] = field(default_factory=dict)

    def copied(self) -> _Work:
        return self.of(copy.deepcopy(self.site.module))

    def of(self, module: nn.Module) -> _Work:
        """Return the same, to be done to another module."""
        return replace(self, site=Site(name=self.site.name, module=module, family=self.site.family))


def _sites_of(model: nn.Module, plan: Plan, *, alone: bool = False) -> list[_Work]:
    """Return the sites a plan cuts; raises `PlanError` for a name that is none of the model's.

    ``alone`` says whether values may be new where nothing is cut: beside blocks that went.
    """
    there = sites(model)
    steps: dict[str, list[tuple[Cut, str, Tensor]]] = {}
    for cut in plan.cuts:
        for name, keep in cut.keep.items():
            owner = _owner(name, there)
            if owner is None:
                raise PlanError(
                    f"the plan cuts {cut.unit} of {name}, which the model does not have",
                    allowed=", ".join(there) or "a model with layers that can be cut",
                    next_step="make the plan for this model",
                )
            steps.setdefault(owner, []).append((cut, name.removeprefix(owner).lstrip("."), keep))
    values: dict[str, dict[str, Tensor]] = {}
    for name, value in plan.values.items():
        owner = _owner(name, there)
        if owner is None or not (alone or owner in steps):
            raise PlanError(
                f"the plan has a new value for {name}, and cuts nothing there",
                allowed=f"values below {', '.join(steps)}",
            )
        values.setdefault(owner, {})[name.removeprefix(owner).lstrip(".")] = value
    return [
        _Work(there[name], tuple(steps.get(name, ())), values.get(name, {}))
        for name in dict.fromkeys((*steps, *values))
    ]


def _owner(name: str, there: Iterable[str]) -> str | None:
    """Return the innermost site that something in a network belongs to."""
    owners = [site for site in there if name == site or name.startswith(f"{site}.")]
    return max(owners, key=len, default=None)


def _cut_part_(every: Sequence[_Work], mode: Mode | None, name: str, part: nn.Module) -> None:
    """Cut the sites in one part of a network."""
    for work in every:
        if f"{work.site.name}.".startswith(f"{name}."):
            inner = work.site.name[len(name) :].lstrip(".")
            _cut_site_(work.of(part.get_submodule(inner)), mode)


def _cut_site_(work: _Work, mode: Mode | None, counts: dict[str, list[int]] | None = None) -> None:
    """Cut one site, and write its values."""
    masked: list[tuple[Coupling, Tensor]] = []
    for cut, target, keep in work.steps:
        coupling = work.site.coupling(cut.unit, target)
        way = coupling.modes[0] if mode is None else mode
        full = _laid_out(work.site.module, coupling, keep, masked)
        if tuple(full.shape) != coupling.grid:
            raise PlanError(
                f"{work.site.name}: the plan has {cut.unit} of grid {tuple(keep.shape)}",
                allowed=str(coupling.grid),
                next_step="make the plan for this model; a shrunk model needs a new one",
            )
        there = work.site.present(coupling)
        if counts is not None:
            counts[cut.unit][0] += int(there.sum())
            counts[cut.unit][1] += int((there & full).sum())
        if way not in coupling.modes or not bool(full.all()):
            work.site.cut_(coupling, full, way, cut.semantics)
        if way == "mask" and coupling.modes[0] == "shrink":
            masked.append((coupling, full))
    for name, value in work.values.items():
        _write_(work.site.module, name, value, masked)


def _laid_out(
    module: nn.Module, coupling: Coupling, keep: Tensor, masked: list[tuple[Coupling, Tensor]]
) -> Tensor:
    """Return a mask in the grid a layer has, where units before were masked and not removed."""
    for before, kept in reversed(masked):
        if keep.shape == coupling.grid:
            return keep
        if before.unit == coupling.unit:
            full = kept.clone()
            full[kept] = keep.reshape(-1)
            return full
        (name,) = {item.parameter for item in coupling.slices}
        like = torch.ones_like(module.get_parameter(name), dtype=torch.bool, device="cpu")
        return spread(before, name, keep, kept, like).reshape(coupling.grid)
    return keep


@torch.no_grad()
def _write_(
    module: nn.Module, name: str, value: Tensor, masked: list[tuple[Coupling, Tensor]]
) -> None:
    path, _, last = name.rpartition(".")
    owner: Any = module.get_submodule(path)
    old: Tensor | None = owner._parameters.get(last)
    old = owner._buffers.get(last) if old is None else old
    if old is None:
        like: Tensor = next(module.parameters())
        added = _over_masked(owner, last, value.to(like.device), masked)
        owner.register_buffer(last, added)
        return
    placed = value.to(old.device)
    for coupling, keep in reversed(masked):
        if placed.shape != old.shape and coupling.of(name):
            placed = spread(coupling, name, placed, keep, old)
    if placed.shape != old.shape or placed.dtype != old.dtype:
        raise PlanError(
            f"the plan's new value of {name} is {value.dtype} {tuple(value.shape)}",
            allowed=f"{old.dtype} {tuple(old.shape)}",
            next_step="make the plan for this model",
        )
    old.copy_(placed)


def _over_masked(
    owner: Any, name: str, value: Tensor, masked: list[tuple[Coupling, Tensor]]
) -> Tensor:
    """Return a tensor that comes with a cut as a masked layer holds it: zero at silent states."""
    grid: Tensor | None = owner._parameters.get("A_log")
    if name not in PER_STATE or grid is None:
        return value
    for coupling, keep in reversed(masked):
        if value.shape != grid.shape and coupling.of("A_log"):
            value = spread(coupling, "A_log", value, keep, value.new_zeros(grid.shape))
    return value


def _sizes(model: nn.Module) -> dict[str, int]:
    tensors = model.state_dict(keep_vars=True).values()
    return {
        "parameters": sum(item.numel() for item in model.parameters()),
        "tensor_bytes": sum(
            item.numel() * item.element_size() for item in {id(t): t for t in tensors}.values()
        ),
    }
