"""Masks that survive training: what was cut stays cut, whatever an optimiser does to it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from ssmith.core.errors import PlanError

PRUNABLE = ("MambaMixer", "FalconMambaMixer")
"""Mixers whose A_log has a number for every state of every channel."""
_PREFIX = "ssmith_keep_"
_FILL = "ssmith_fill_"


def hold_(module: nn.Module, parameter: str, keep: Bool[Tensor, "..."], fill: float) -> None:
    """Keep the masked entries of a parameter at a value, before every forward pass from now on.

    The mask is a buffer beside the parameter: it moves and copies with the module and does not
    show in its ``state_dict``.

    Args:
        module: the module that owns the parameter.
        parameter: its name.
        keep: True = the entry is free; anything else stays at ``fill``. Joined with an earlier
            mask of the same parameter.
        fill: the value.

    Raises:
        PlanError: if the mask has another shape.
    """
    value: Tensor = getattr(module, parameter)
    if keep.shape != value.shape:
        raise PlanError(
            f"a mask of shape {tuple(keep.shape)} for {parameter}", allowed=f"{tuple(value.shape)}"
        )
    if not hasattr(module, _PREFIX + parameter):
        module.register_buffer(
            _PREFIX + parameter, keep.to(value.device, copy=True), persistent=False
        )
        module.register_forward_pre_hook(_refill)
    else:
        setattr(module, _PREFIX + parameter, held(module, parameter) & keep.to(value.device))
    setattr(module, _FILL + parameter, fill)
    _refill(module, ())


def held(module: nn.Module, parameter: str) -> Bool[Tensor, "..."]:
    """Return a parameter's mask; all True where it has none."""
    found: Any = getattr(module, _PREFIX + parameter, None)
    if found is None:
        return torch.ones_like(getattr(module, parameter), dtype=torch.bool)
    mask: Tensor = found
    return mask


def let_go_(module: nn.Module, parameter: str) -> None:
    """Forget a parameter's mask; its values stay as they are."""
    if hasattr(module, _PREFIX + parameter):
        delattr(module, _PREFIX + parameter)
        delattr(module, _FILL + parameter)


def masks(module: nn.Module) -> Iterator[tuple[str, Bool[Tensor, "..."], float]]:
    """Yield dotted name, mask and value of every parameter below a module that has one."""
    for prefix, part in module.named_modules():
        for name in sorted(part._buffers):
            if name.startswith(_PREFIX):
                parameter = name.removeprefix(_PREFIX)
                yield (
                    f"{prefix}.{parameter}".lstrip("."),
                    held(part, parameter),
                    getattr(part, _FILL + parameter),
                )


@torch.no_grad()
def _refill(module: nn.Module, _: tuple[Any, ...]) -> None:
    """Write the value wherever it must stand."""
    for name in [name for name in module._buffers if name.startswith(_PREFIX)]:
        parameter = name.removeprefix(_PREFIX)
        value, fill = getattr(module, parameter), getattr(module, _FILL + parameter)
        # Through `data`, autograd does not take the parameter for changed: a recomputed pass finds
        # what it saved. Looking first whether anything has to be written would cost more.
        value.data.masked_fill_(~getattr(module, name), fill)
