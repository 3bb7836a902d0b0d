"""Random layers, and settings that a type checker would not let through."""

import math

import torch

from ssmith.core.layers import Modes


def make_layer(
    seed,
    states=8,
    inputs=3,
    outputs=4,
    *,
    name=None,
    two_way=False,
    channels=None,
    conjugate=True,
    scale=1.0,
):
    """A random stable layer; with ``channels``, SISO modes spread evenly over them."""
    g = torch.Generator().manual_seed(seed)
    count = states if channels is None else states * channels
    inputs, outputs = (inputs, outputs) if channels is None else (1, 1)

    def rows(width):
        return scale * torch.randn(count, width, dtype=torch.complex128, generator=g)

    radius = 0.2 + 0.79 * torch.rand(count, dtype=torch.float64, generator=g)
    angle = (2 * torch.rand(count, dtype=torch.float64, generator=g) - 1) * math.pi
    return Modes(
        layer=name or f"layers.{seed}",
        A_bar=torch.polar(radius, angle),
        B_bar=rows(inputs),
        C=rows(outputs),
        C_back=rows(outputs) if two_way else None,
        channel=None if channels is None else torch.arange(channels).repeat_interleave(states),
        conjugate=conjugate,
        grid=(states,) if channels is None else (channels, states),
        present=torch.ones(count, dtype=torch.bool),
    )


def check_again_with(criterion, **values):
    """Check settings as a caller without a type checker would have them checked."""
    for name, value in values.items():
        object.__setattr__(criterion, name, value)
    criterion.__post_init__()
