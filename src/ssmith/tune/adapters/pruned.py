"""What was pruned in a base model stays pruned, whatever is trained on top."""

from __future__ import annotations

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from ssmith.families.masks import mask_of

_REAL = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def kept(module: nn.Module, parameter: str) -> Bool[Tensor, "..."] | None:
    """Return where a parameter was not pruned: False is kept at its value by every adapter.

    Pruned is what a mask beside the parameter says, and every exact zero of a weight matrix that
    has other values too: trained weights are not exactly zero by chance.
    """
    value = module._parameters[parameter]
    # Quantised weights hold zeros that stand for small numbers.
    if value is None or value.is_meta or value.dtype not in _REAL:
        return None
    mask = mask_of(module, parameter)
    if parameter == "weight" and value.ndim > 1:
        alive = value.detach() != 0
        if bool(alive.any()):
            mask = mask & alive
    return None if bool(mask.all()) else mask
