"""How much a model's answer depends on each layer's output, from random projections of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from jaxtyping import Float64
from torch import Tensor, nn

from ssmith.calibrate.stream import evaluating, inputs_of
from ssmith.core.errors import DataError
from ssmith.core.layout import Layout
from ssmith.core.moments import Moments
from ssmith.core.seeds import generator
from ssmith.core.sequences import Sequences
from ssmith.families import find_layers, probed


def with_sensitivity(
    model: nn.Module,
    moments: Mapping[str, Moments],
    found: Mapping[str, Float64[Tensor, "m m"]],
) -> dict[str, Moments]:
    """Return moments that also hold the sensitivity of their layers.

    Args:
        model: the model they are of.
        moments: of some layers.
        found: of those layers, from `measure_sensitivity`.

    Returns:
        Layer name → moments.
    """
    layers = find_layers(model)
    changed = {}
    for name, own in moments.items():
        channel = Layout.of(layers[name].modes(name)).channel
        whole = found[name]
        groups = whole.unsqueeze(0) if channel is None else whole.diagonal()[channel].view(-1, 1, 1)
        changed[name] = replace(own, sensitivity=groups)
    return changed


def measure_sensitivity(
    model: nn.Module,
    part: Sequences,
    *,
    centred: bool,
    seed: int = 0,
    batch_size: int = 64,
) -> dict[str, Float64[Tensor, "m m"]]:
    """Measure ``E[g gᵀ]`` of every layer, g the gradient of a random mix of the model's outputs.

    With outputs ``f`` and a standard normal ``ξ``, ``E[(ξᵀ J δ)²] = ‖J δ‖²``: weighing a layer's
    error by it tells, to first order, how far the model's outputs move. No label is read.

    Args:
        model: run in evaluation mode; it is not changed.
        part: calibration sequences.
        centred: outputs that all rise alike do not count, as for the logits of classes.
        seed: of ξ.
        batch_size: sequences per pass, ≥ 1.

    Returns:
        Layer name → mean over valid steps, (m, m).

    Raises:
        DataError: if there is no sequence.
    """
    sums: dict[str, Tensor] = {}
    steps, draw = 0, generator(seed, "sensitivity")
    with evaluating(model), probed(model) as leaves, torch.enable_grad():
        for index in torch.arange(len(part), device=part.x.device).split(batch_size):
            batch = part.take(index)
            out = model(*inputs_of(model, batch))
            mix = torch.randn(out.shape, generator=draw, dtype=torch.float64).to(out)
            if centred:
                mix = mix - mix.mean(dim=1, keepdim=True)
            slopes = torch.autograd.grad((out * mix).sum(), list(leaves.values()))
            valid = torch.arange(batch.x.shape[1]) < batch.lengths.cpu().unsqueeze(1)
            steps += int(valid.sum())
            for name, slope in zip(leaves, slopes, strict=True):
                rows = slope.double().cpu()[valid]
                found = rows.mT @ rows
                sums[name] = found + sums[name] if name in sums else found
    if not steps:
        raise DataError("there is no valid step to calibrate on", next_step="check the lengths")
    return {name: total / steps for name, total in sums.items()}
