"""Masks that survive training: what was cut stays cut, whatever an optimiser does to it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Int64
from torch import Tensor, nn

from ssmith.core.errors import PlanError

_PREFIX = "ssmith_mask_"
_FILL = "ssmith_fill_"
_SEEN = "ssmith_seen_"
_MASKED = "ssmith_masked"
_LOOKED_AT = 64


@dataclass(frozen=True)
class _Seen:
    """A parameter as the last pass without gradients left it."""

    version: int
    pointer: int
    places: Int64[Tensor, "k"]
    values: Tensor

    @classmethod
    def of(cls, value: Tensor, keep: Bool[Tensor, "..."]) -> _Seen | None:
        """Remember a parameter; None where looking again would cost more than writing."""
        if value.device.type != "cpu" or value.is_inference():
            return None
        cut = (~keep).reshape(-1).nonzero().squeeze(-1)
        spread = torch.linspace(0, max(len(cut) - 1, 0), min(len(cut), _LOOKED_AT)).long()
        places = cut[spread]
        return cls(value._version, value.data_ptr(), places, torch.take(value.detach(), places))

    def still(self, value: Tensor) -> bool:
        """Return whether it is the same memory, written by nobody as far as one can see."""
        return (
            value.data_ptr() == self.pointer
            and value._version == self.version
            and torch.equal(torch.take(value, self.places), self.values)
        )


def apply_mask_(site: nn.Module, parameter: str, keep: Bool[Tensor, "..."], fill: float) -> None:
    """Keep the masked entries of a parameter at a value, before every forward pass from now on.

    The mask is a buffer beside the parameter: it moves and copies with the module and does not
    show in its ``state_dict``. The entries are written before a pass of the mixer the parameter
    belongs to, which reads the weights of some of its layers without calling them (and native
    kernels read them past any hook of their layers).

    In evaluation mode and without gradients, on a CPU, they are written again only if the
    parameter changed: if it was written in a way autograd counts, lies elsewhere, or shows another
    value at one of 64 cut entries spread over it. A write past autograd (through ``data``, or by a
    fused optimiser) that leaves all of these alone waits for the next pass in training mode or
    with gradients, or for `reapply_masks_`, which saving calls.

    ``parameter`` is dotted as seen from ``site``, the layer that reads it. Where ``keep`` is True
    the entry is free; it joins an earlier mask of the same parameter.
    """
    path, _, name = parameter.rpartition(".")
    owner = site.get_submodule(path)
    value: Tensor = getattr(owner, name)
    if keep.shape != value.shape:
        raise PlanError(
            f"a mask of shape {tuple(keep.shape)} for {parameter}", allowed=f"{tuple(value.shape)}"
        )
    place = place_of_mask(value)
    if not is_masked(owner, name):
        owner.register_buffer(_PREFIX + name, keep.to(place, copy=True), persistent=False)
    else:
        setattr(owner, _PREFIX + name, mask_of(owner, name) & keep.to(place))
    setattr(owner, _FILL + name, fill)
    known: list[tuple[nn.Module, str]] = site.__dict__.setdefault(_MASKED, [])
    if not known:
        site.register_forward_pre_hook(_before_pass)
    if (owner, name) not in known:
        known.append((owner, name))
    reapply_masks_(owner)


def place_of_mask(value: Tensor) -> torch.device:
    """Return where a parameter's mask lies: one without memory has a mask all the same."""
    return torch.device("cpu") if value.is_meta else value.device


def is_masked(module: nn.Module, parameter: str) -> bool:
    """Return whether a parameter of a module has a mask."""
    return _PREFIX + parameter in module._buffers


def mask_of(module: nn.Module, parameter: str) -> Bool[Tensor, "..."]:
    """Return a parameter's mask; all True where it has none."""
    found: Any = getattr(module, _PREFIX + parameter, None)
    if found is None:
        return torch.ones_like(getattr(module, parameter), dtype=torch.bool)
    mask: Tensor = found
    return mask


def fill_of(module: nn.Module, parameter: str) -> float:
    """Return the value of a masked parameter's cut entries."""
    fill: float = getattr(module, _FILL + parameter)
    return fill


def remove_mask_(module: nn.Module, parameter: str) -> None:
    """Forget a parameter's mask; its values stay as they are."""
    if is_masked(module, parameter):
        delattr(module, _PREFIX + parameter)
        delattr(module, _FILL + parameter)
        module.__dict__.pop(_SEEN + parameter, None)


def masks_of(module: nn.Module) -> Iterator[tuple[str, Bool[Tensor, "..."], float]]:
    """Yield dotted name, mask and value of every parameter below a module that has one."""
    for prefix, part in module.named_modules():
        for name in sorted(part._buffers):
            if name.startswith(_PREFIX):
                parameter = name.removeprefix(_PREFIX)
                yield (
                    f"{prefix}.{parameter}".lstrip("."),
                    mask_of(part, parameter),
                    fill_of(part, parameter),
                )


def reapply_masks_(module: nn.Module) -> None:
    """Write the value of every masked entry below a module, as the next forward pass would."""
    for part in module.modules():
        for name in [name for name in part._buffers if name.startswith(_PREFIX)]:
            _write(part, name.removeprefix(_PREFIX), at_rest=False)


def _before_pass(mixer: nn.Module, _: tuple[Any, ...]) -> None:
    learns = mixer.training or torch.is_grad_enabled()
    at_rest = not (learns or torch.compiler.is_compiling())
    # A walk through all parts would cost a decoding step as much as everything else here.
    for part, parameter in mixer.__dict__[_MASKED]:
        _write(part, parameter, at_rest=at_rest)


def _write(part: nn.Module, parameter: str, *, at_rest: bool) -> None:
    """Write the value wherever it must stand; at rest, only if the parameter changed."""
    keep = part._buffers.get(_PREFIX + parameter)
    if keep is None:
        return  # removed since
    value: Tensor = getattr(part, parameter)
    if value.is_meta:
        return
    seen: _Seen | None = getattr(part, _SEEN + parameter, None) if at_rest else None
    if seen is not None and seen.still(value):
        return
    # Through `data`, autograd does not take the parameter for changed: a recomputed pass finds
    # what it saved.
    value.data.masked_fill_(~keep, fill_of(part, parameter))
    setattr(part, _SEEN + parameter, _Seen.of(value, keep) if at_rest else None)
