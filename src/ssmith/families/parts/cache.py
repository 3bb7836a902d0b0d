"""Reading and writing the states a Hugging Face cache carries for one layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ssmith.core.errors import UnsupportedError
from ssmith.families.parts.padding import Padding


@dataclass(frozen=True, kw_only=True)
class Carried:
    """What a layer starts from; ``virtual`` if from a prefix, which stands in no cache yet."""

    conv: Tensor | None = None
    recurrent: Tensor | None = None
    virtual: bool = False


def read(cache: Any, layer: int) -> Carried:
    """Return what the cache holds for a layer; nothing where there is nothing to continue from."""
    if cache is None:
        return Carried()
    if cache.is_recording_past(layer):
        raise UnsupportedError(
            "the cache records past steps in order to roll back, which a recurrent state cannot",
            next_step="generate without an assistant model",
        )
    conv = cache.get_conv_state(layer, state_idx=0)
    recurrent = cache.get_recurrent_state(layer, state_idx=0)
    return Carried(conv=None if conv is None else conv.mT, recurrent=recurrent)


def conv_state(carried: Carried) -> Tensor | None:
    """Return the k − 1 steps our convolution starts from: caches keep one more, never read."""
    return None if carried.conv is None else carried.conv[:, 1:]


def write(
    cache: Any, layer: int, kernel: int, inputs: tuple[Tensor, Carried, Padding | None], h: Tensor
) -> None:
    """Store the states after a batch of steps.

    ``inputs``: those of the convolution (b, l, e), the states the batch started from, and how its
    rows were sorted.
    """
    if cache is None:
        return
    x, carried, padding = inputs
    if padding is None:
        if carried.virtual and carried.conv is not None:
            x = torch.cat([carried.conv.to(x.dtype), x], dim=1)
        tail = x[:, max(0, x.shape[1] - kernel) :]
    else:
        before = x.new_zeros(x.shape[0], kernel, x.shape[2])
        tail = padding.last_steps(x, before if carried.conv is None else carried.conv.to(x.dtype))
    with torch.no_grad():
        cache.update_conv_state(tail.mT, layer, conv_kernel_size=kernel)
        cache.update_recurrent_state(h, layer)
