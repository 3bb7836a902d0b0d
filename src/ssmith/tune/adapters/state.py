"""An adapter's tensors by the names they have in its file."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ssmith.core.errors import ArtefactError
from ssmith.tune.adapters.registry import check_name
from ssmith.tune.adapters.select import place_
from ssmith.tune.adapters.slot import slots


def state(model: nn.Module, name: str = "default") -> dict[str, Tensor]:
    """Return an adapter's tensors, detached but not copied, by their names in a file.

    A name is the dotted name of the module, then that of the tensor in it.
    """
    check_name(model, name)
    found = {}
    for owner, _, slot in slots(model):
        for key, part in slot.of(name):
            tensors = part.state_dict(keep_vars=True)
            for inner, outer in part.file_names().items():
                place = outer if outer.startswith("lora_") and key == "lora" else f"{key}.{outer}"
                found[f"{owner}.{place}".lstrip(".")] = tensors[inner].detach()
    return found


def load_state_(model: nn.Module, name: str, tensors: Mapping[str, Tensor]) -> None:
    """Fill an attached adapter with tensors, all of them or none.

    A warm-up that the tensors say is over ends here.
    """
    place_(model, name, tensors)
    wanted = state(model, name)
    missing, unknown = sorted(set(wanted) - set(tensors)), sorted(set(tensors) - set(wanted))
    if missing or unknown:
        raise ArtefactError(
            f"the tensors of adapter {name!r} lack {missing[:3]} and hold unknown {unknown[:3]}",
            next_step="the file belongs to another model or adapter; give the right one",
        )
    for key, value in tensors.items():
        if value.shape != wanted[key].shape:
            raise ArtefactError(
                f"{key} is {tuple(value.shape)}", allowed=f"{tuple(wanted[key].shape)}"
            )
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise ArtefactError(
                f"{key} has values that are not finite", next_step="restore an earlier checkpoint"
            )
    with torch.no_grad():
        for key, value in tensors.items():
            wanted[key].copy_(value)
