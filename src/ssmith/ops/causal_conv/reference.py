"""The causal depthwise convolution as its definition reads, with the state it carries."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from ssmith.core.errors import InputError
from ssmith.ops.shapes import check_shapes


def causal_conv_reference(
    x: Float[Tensor, "b l e"],
    weight: Float[Tensor, "e k"],
    bias: Float[Tensor, "e"] | None = None,
    state: Float[Tensor, "b q e"] | None = None,
    *,
    silu: bool = True,
) -> tuple[Float[Tensor, "b l e"], Float[Tensor, "b q e"]]:
    """Convolve each channel with its own taps, seeing no later step.

    ``y[t] = SiLU(bias + Σ_j weight[j]·x[t − (k−1) + j])``, where steps before the first are the ``q
    = k − 1`` steps of ``state`` (zero if None). Time comes before channels; the last tap acts on
    the current step, and the oldest step of the state is first. Returned are the output and the
    state after the last step.

    Source: Mamba (arXiv 2312.00752), section 3.4.
    Differs: the state keeps k − 1 steps; released caches keep k, of which one is never read.
    """
    check_conv(x, weight, bias, state)
    k = weight.shape[1]
    if state is None:
        state = x.new_zeros(x.shape[0], k - 1, x.shape[2])
    padded = torch.cat([state, x], dim=1)
    length = x.shape[1]
    y = sum((padded[:, j : j + length] * weight[:, j] for j in range(k)), torch.zeros_like(x))
    if bias is not None:
        y = y + bias
    return functional.silu(y) if silu else y, padded[:, length:]


def check_conv(x: Tensor, weight: Tensor, bias: Tensor | None, state: Tensor | None) -> None:
    """Raise `InputError`, naming the first tensor of a causal convolution that does not fit."""
    if x.ndim != 3 or weight.ndim != 2 or weight.shape[0] != x.shape[2] or not weight.shape[1]:
        raise InputError(
            f"x has shape {tuple(x.shape)} and weight {tuple(weight.shape)}",
            allowed="x (b, l, e) and weight (e, k) with k ≥ 1",
        )
    b, _, e = x.shape
    wanted = {"bias": (e,), "state": (b, weight.shape[1] - 1, e)}
    check_shapes({"bias": bias, "state": state}, wanted)
