"""The causal convolution before a mixer's scan, and what a scan computes in."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ssmith.ops.causal_conv import causal_conv


def follows_silu(mixer: Any) -> bool:
    """Return whether SiLU follows a mixer's convolution."""
    named = getattr(mixer, "activation", "silu")
    return isinstance(named, str) and named in ("silu", "swish")


def convolve(mixer: Any, x: Tensor, state: Tensor | None) -> Tensor:
    """Return the mixer's convolution of ``x``, activated."""
    named, silu = getattr(mixer, "activation", "silu"), follows_silu(mixer)
    act = named if callable(named) else getattr(mixer, "act", functional.silu)
    conv = mixer.conv1d
    if type(conv) is not nn.Conv1d:
        # An adapter or a quantised layer stands here: it is called, so that it takes part.
        before = 0 if state is None else state.shape[1]
        whole = x if state is None else torch.cat([state.to(x.dtype), x], dim=1)
        called: Tensor = act(conv(whole.mT).mT[:, before : before + x.shape[1]])
        return called
    y, _ = causal_conv(x, conv.weight.squeeze(1), conv.bias, state, silu=silu)
    activated: Tensor = y if silu else act(y)
    return activated


def last_inputs(raw: Tensor, kernel: int) -> Tensor:
    """Return the last k inputs of a convolution that started from nothing."""
    return functional.pad(raw, (0, 0, kernel, 0))[:, -kernel:]


def at_least_float32(tensor: Tensor) -> Tensor:
    """Return float64 as it is, and everything narrower in float32."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()
