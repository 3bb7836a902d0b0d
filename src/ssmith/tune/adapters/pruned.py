"""What was pruned in a base model stays pruned, whatever is trained on top."""

from __future__ import annotations

from jaxtyping import Bool
from torch import Tensor, nn

from ssmith.families.hf.holding import held


def kept(module: nn.Module, parameter: str) -> Bool[Tensor, "..."] | None:
    """Return where a parameter was not pruned: False is kept at its value by every adapter.

    Pruned is what a mask beside the parameter says, and every exact zero of a weight matrix that
    has other values too: trained weights are not exactly zero by chance.

    Args:
        module: the module that owns the parameter.
        parameter: its name.

    Returns:
        A mask, or None if nothing was pruned.
    """
    value = module._parameters[parameter]
    if value is None or value.is_meta:
        return None
    mask = held(module, parameter)
    if parameter == "weight" and value.ndim > 1:
        alive = value.detach() != 0
        if bool(alive.any()):
            mask = mask & alive
    return None if bool(mask.all()) else mask
