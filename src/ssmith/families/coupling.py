"""Cutting by a unit's table: remove, mask, lay out again, and weigh."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import torch
from jaxtyping import Bool, Int64
from torch import Tensor, nn

from ssmith.core.errors import PlanError, UnsupportedError
from ssmith.core.unit import Coupling, Renorm, Slice
from ssmith.families.masks import (
    apply_mask_,
    fill_of,
    is_masked,
    mask_of,
    place_of_mask,
    remove_mask_,
)
from ssmith.families.parts.hooks import SLOT

_SHARE = "ssmith_share"


@torch.no_grad()
def shrink_(site: nn.Module, coupling: Coupling, keep: Bool[Tensor, "..."]) -> None:
    """Remove units for good: every tensor they live in gets smaller, and so do the sizes.

    Masks that parameters have are cut along. A configuration that sizes stand in is copied first,
    as other layers may share it.
    """
    flat = _checked(coupling, keep)
    if "shrink" not in coupling.modes:
        raise UnsupportedError(
            f"{coupling.unit} cannot be removed, only masked", allowed='mode="mask"'
        )
    carrying = [name for name, part in site.named_modules() if SLOT in part._modules]
    if carrying:
        raise UnsupportedError(
            f"{type(site).__name__} carries adapters of the old size",
            next_step="merge or detach them before cutting",
        )
    if int(flat.sum()) < coupling.least:
        raise PlanError(
            f"a mask that keeps no {coupling.unit}", allowed=f"at least {coupling.least} kept"
        )
    there = present(site, coupling).flatten()
    share = _ratio(coupling, there[flat], there)
    for parameter in dict.fromkeys(item.parameter for item in coupling.slices):
        _cut_parameter_(site, coupling, parameter, flat)
    gone = int((~flat).sum())
    for size, amount in coupling.sizes.items():
        _lower_(site, size, _whole(gone * Fraction(amount), coupling, size))
    for renorm in coupling.renorms:
        rescale_norm_(site.get_submodule(renorm.norm), renorm, share)


@torch.no_grad()
def mask_(
    site: nn.Module, coupling: Coupling, keep: Bool[Tensor, "..."], fill: float | None = None
) -> None:
    """Silence units, so that the layer computes what it would without them; they stay stored.

    Their entries are written again before every pass, whatever an optimiser did to them. ``keep``
    joins earlier masks; ``fill`` is the value of what is cut, in place of the table's.
    """
    flat = _checked(coupling, keep)
    there = present(site, coupling)
    share = _ratio(coupling, there & keep.to(there.device), there)
    for item in coupling.slices:
        if item.silent is None:
            continue
        value: Tensor = getattr(*_place(site, item.parameter))
        if item.dim is None:
            free = keep.reshape(value.shape).to(place_of_mask(value))
        else:
            lines = item.lines(value)
            line = ~item.removed(flat, len(lines)).to(place_of_mask(value))
            free = line.view(-1, *[1] * (lines.ndim - 1)).expand(lines.shape)
            free = item.laid(free, value.shape[0])
        apply_mask_(site, item.parameter, free, item.silent if fill is None else fill)
    for renorm in coupling.renorms:
        rescale_norm_(site.get_submodule(renorm.norm), renorm, share)


def present(site: nn.Module, coupling: Coupling) -> Bool[Tensor, "..."]:
    """Return which units no mask has silenced, in the coupling's grid, on the CPU."""
    free = torch.zeros(coupling.count, dtype=torch.bool)
    units = torch.arange(coupling.count)
    for item in coupling.slices:
        if item.silent is None:
            continue
        owner, name = _place(site, item.parameter)
        if not is_masked(owner, name):
            return torch.ones(coupling.grid, dtype=torch.bool)
        mask = mask_of(owner, name).cpu()
        if item.dim is None:
            return mask.view(coupling.grid).clone()
        lines = item.lines(mask)
        line = lines.reshape(len(lines), -1).any(1)
        free |= line[item.places(units)].any(1)
    # A unit that no mask can silence is there.
    silenced = any(item.silent is not None for item in coupling.slices)
    return (free if silenced else ~free).view(coupling.grid)


def spread(
    coupling: Coupling,
    parameter: str,
    cut: Tensor,
    keep: Bool[Tensor, "..."],
    like: Tensor,
) -> Tensor:
    """Return a value in the shape after a cut, laid out in the shape of a masked model.

    ``like`` is the parameter as the masked model has it: what is cut keeps its values.
    """
    axes = _axes(coupling, parameter)
    full = like.detach().clone()
    flat = keep.reshape(-1)
    slabs = [item for item in coupling.of(parameter) if item.each]
    if slabs:
        (item,) = slabs
        lines = item.lines(full).clone()
        stays = coupling.stays(parameter, axes[0], flat.cpu(), len(lines))
        lines[stays.to(lines.device)] = item.lines(cut.to(full))
        return item.laid(lines, len(full)).contiguous()
    if not axes:
        lead = full.shape[: coupling.of(parameter)[0].start].numel()
        rows = full.view(lead, coupling.count, -1)
        rows[:, flat.to(rows.device)] = cut.to(full).view(lead, int(flat.sum()), -1)
        return full
    index: list[Int64[Tensor, "..."]] = []
    for axis in range(like.ndim):
        stays = torch.arange(like.shape[axis])
        if axis in axes:
            stays = coupling.stays(parameter, axis, flat.cpu(), like.shape[axis])
        index.append(
            stays.to(like.device).view([-1 if at == axis else 1 for at in range(like.ndim)])
        )
    full[tuple(index)] = cut.to(full)
    return full


def weigh(site: nn.Module, coupling: Coupling, removed: int) -> dict[str, int]:
    """Return what goes with a number of units, without cutting them.

    As many go from each part that must stay equal. ``bytes`` are those of ``parameters`` and of
    buffers that are saved.
    """
    keep = torch.ones(coupling.per_block, coupling.count // coupling.per_block, dtype=torch.bool)
    keep[:, : removed // coupling.per_block] = False
    weight = {"parameters": 0, "bytes": 0}
    if "shrink" not in coupling.modes:
        return weight
    for parameter in dict.fromkeys(item.parameter for item in coupling.slices):
        owner, name = _place(site, parameter)
        value: Tensor = getattr(owner, name)
        left, axes = list(value.shape), _axes(coupling, parameter)
        for axis in axes:
            item = _of_axis(coupling, parameter, axis)
            lines = item.lines(value)
            stays = coupling.stays(parameter, axis, keep.flatten(), len(lines))
            left[axis] = len(stays) // (len(lines) // left[axis])
        gone = value.numel() - torch.Size(left).numel()
        if not axes:
            gone = value.numel() // coupling.count * int((~keep).sum())
        learned = name in owner._parameters
        if learned or (name in owner._buffers and name not in owner._non_persistent_buffers_set):
            weight["bytes"] += gone * value.element_size()
        weight["parameters"] += gone if learned else 0
    return weight


def rescale_norm_(norm: Any, renorm: Renorm, share: Fraction) -> None:
    """Change a norm as if it averaged over another number of places: ``w·√s``, ``ε·s``.

    ``share`` is s, places after over places before.
    """
    if share == 1:
        return
    total = getattr(norm, _SHARE, Fraction(1)) * share
    weight: Tensor = getattr(norm, renorm.weight)
    weight.data.mul_(float(share) ** 0.5)
    setattr(norm, renorm.epsilon, getattr(norm, renorm.epsilon) * float(share))
    setattr(norm, _SHARE, total)


def norm_shares(model: nn.Module) -> Iterator[tuple[str, Fraction]]:
    """Yield dotted name and share of each norm that a mask has rescaled."""
    for name, part in model.named_modules():
        share: Fraction = getattr(part, _SHARE, Fraction(1))
        if share != 1:
            yield name, share


def _checked(coupling: Coupling, keep: Bool[Tensor, "..."]) -> Bool[Tensor, "u"]:
    """Return a mask as a row of units on the CPU, or raise."""
    if keep.dtype != torch.bool or tuple(keep.shape) != coupling.grid:
        raise PlanError(
            f"a mask of {coupling.unit} of type {keep.dtype} and shape {tuple(keep.shape)}",
            allowed=f"bool, {coupling.grid}",
        )
    flat = keep.reshape(-1).cpu()
    counts = flat.view(coupling.per_block, -1).sum(1)
    if len(set(counts.tolist())) > 1:
        raise PlanError(
            f"{coupling.unit}: {sorted(set(counts.tolist()))} kept in {coupling.per_block} parts",
            allowed="as many in each of them",
        )
    return flat


def _place(site: nn.Module, parameter: str) -> tuple[Any, str]:
    path, _, name = parameter.rpartition(".")
    owner = site.get_submodule(path)
    inside = (owner._parameters, owner._buffers, owner.__dict__)
    if not any(name in place for place in inside):
        raise UnsupportedError(
            f"{path} is a {type(owner).__name__}, which has no {name} of its own",
            allowed="layers that hold their weights themselves",
            next_step="merge the adapter into its base, or dequantise it, before cutting",
        )
    return owner, name


def _axes(coupling: Coupling, parameter: str) -> list[int]:
    axes = {item.dim for item in coupling.of(parameter) if item.dim is not None}
    return sorted(axes)


def _of_axis(coupling: Coupling, parameter: str, axis: int) -> Slice:
    """Return one of the slices of a parameter along an axis: all of them lie in slabs alike."""
    return next(item for item in coupling.of(parameter) if item.dim == axis)


def _cut_parameter_(
    site: nn.Module, coupling: Coupling, parameter: str, flat: Bool[Tensor, "u"]
) -> None:
    """Replace one tensor, and the mask it may have, by what stays of it."""
    owner, name = _place(site, parameter)
    old: Tensor = getattr(owner, name)
    mask = mask_of(owner, name) if is_masked(owner, name) else None
    value = old.detach()
    for axis in _axes(coupling, parameter):
        item, slabs = _of_axis(coupling, parameter, axis), value.shape[0]
        stays = coupling.stays(parameter, axis, flat, len(item.lines(value)))
        value = item.laid(item.lines(value).index_select(0, stays.to(value.device)), slabs)
        if mask is not None:
            mask = item.laid(item.lines(mask).index_select(0, stays.to(mask.device)), slabs)
    value = value.contiguous()
    if isinstance(old, nn.Parameter):
        value = nn.Parameter(value, requires_grad=old.requires_grad)
    setattr(owner, name, value)
    if mask is not None:
        fill = fill_of(owner, name)
        remove_mask_(owner, name)
        if not bool(mask.all()):
            apply_mask_(site, parameter, mask, fill)


def _lower_(site: nn.Module, size: str, amount: int) -> None:
    """Lower a number that stands beside the tensors; a configuration is copied first."""
    *path, name = size.split(".")
    owner: Any = site
    for part in path:
        inner = getattr(owner, part)
        if not isinstance(inner, nn.Module):
            inner = copy.copy(inner)
            setattr(owner, part, inner)
        owner = inner
    setattr(owner, name, getattr(owner, name) - amount)


def _whole(amount: Fraction, coupling: Coupling, size: str) -> int:
    if amount.denominator != 1:
        raise PlanError(f"{size} would fall by {amount} with this number of {coupling.unit}")
    return int(amount)


def _ratio(coupling: Coupling, after: Bool[Tensor, "..."], before: Bool[Tensor, "..."]) -> Fraction:
    """Return by how much the share of units that speak changes, for the norms over them."""
    if not coupling.renorms:
        return Fraction(1)
    if not bool(after.any()):
        raise PlanError(f"no {coupling.unit} would be left that no mask silences")
    left = Fraction(int(after.sum()), after.numel())
    return left / Fraction(int(before.sum()), before.numel())
