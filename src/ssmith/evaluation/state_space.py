"""The state space part of a forward pass, alone: what a cut of states really shortens."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from ssmith.core.sequences import Sequences
from ssmith.evaluation.running import device_of, dtype_of
from ssmith.families import find_layers


def state_space_run(model: nn.Module, batch: Sequences) -> Callable[[], None]:
    """Return a run of every state space layer of a model, without what stands between them.

    The input is standard normal with the batch's shape: the time does not depend on the values.

    Args:
        model: any module with state space layers.
        batch: gives the number of sequences and their length.

    Returns:
        A function without arguments that runs the layers once.
    """
    stream = torch.Generator().manual_seed(0)
    layers = list(find_layers(model).values())
    b, length = batch.x.shape[:2]
    inputs = [
        torch.randn(b, length, layer.width, generator=stream).to(device_of(model), dtype_of(model))
        for layer in layers
    ]

    def run() -> None:
        for layer, u in zip(layers, inputs, strict=True):
            layer(u)

    return run
