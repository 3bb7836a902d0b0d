"""Everything one site is, as tensors: what a pass leaves of it, and what makes another of it."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from ssmith.families.mamba import units as mamba
from ssmith.families.mamba.selective import SEMANTICS
from ssmith.families.mamba2 import units as mamba2
from ssmith.families.masks import apply_mask_, masks_of, remove_mask_


@dataclass(frozen=True, kw_only=True)
class SiteState:
    """Everything one site is after a cut.

    Per parameter that has one, ``masks`` holds its mask (True = free) and ``fills`` the value of
    the rest; ``semantics`` is that of the cut entries of A_log.
    """

    tensors: dict[str, Tensor]
    masks: dict[str, Bool[Tensor, "..."]] = field(default_factory=dict)
    fills: dict[str, float] = field(default_factory=dict)
    semantics: str | None = None


def state_of(site: nn.Module) -> SiteState:
    """Return a site's weights, masks and semantics, on the CPU."""
    found = {name: (mask.cpu(), fill) for name, mask, fill in masks_of(site)}
    return SiteState(
        tensors={
            name: value.detach().cpu().contiguous() for name, value in site.state_dict().items()
        },
        masks={name: mask for name, (mask, _) in found.items()},
        fills={name: fill for name, (_, fill) in found.items()},
        semantics=getattr(site, SEMANTICS, None),
    )


@torch.no_grad()
def restore_(site: nn.Module, state: SiteState) -> None:
    """Make a site what another one was, sizes included.

    Tensors the site lacks become buffers of it.
    """
    for name, _, _ in list(masks_of(site)):
        owner, _, parameter = name.rpartition(".")
        remove_mask_(site.get_submodule(owner), parameter)
    device = next(iter(site.parameters())).device
    for name, value in state.tensors.items():
        owner, _, parameter = name.rpartition(".")
        module = site.get_submodule(owner)
        old = module._parameters.get(parameter)
        placed = value.to(value.device if device.type == "meta" else device, copy=True)
        if old is None:
            # What recovery adds (an offset) is a buffer the site did not have before.
            module.register_buffer(parameter, placed)
        else:
            setattr(module, parameter, nn.Parameter(placed, requires_grad=old.requires_grad))
    A_log = getattr(site, "A_log", None)
    if A_log is not None:
        (mamba if A_log.ndim == 2 else mamba2).resize_(site)
    for name, mask in state.masks.items():
        apply_mask_(site, name, mask, state.fills[name])
    if state.semantics is not None:
        setattr(site, SEMANTICS, state.semantics)
