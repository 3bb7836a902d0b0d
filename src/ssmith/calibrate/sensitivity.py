"""How much a model's answer depends on each layer's output, from random projections of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor, nn

from ssmith.calibrate.observe import Call, valid_of
from ssmith.core.errors import DataError
from ssmith.core.layers import Modes
from ssmith.core.layout import Layout
from ssmith.core.moments import Moments
from ssmith.core.rows import Rows, as_rows
from ssmith.core.running import evaluating
from ssmith.core.seeds import generator
from ssmith.core.trees import tensors_in
from ssmith.families import find_layers


def with_sensitivity(
    model: nn.Module,
    moments: Mapping[str, Moments],
    found: Mapping[str, Float64[Tensor, "m m"]],
) -> dict[str, Moments]:
    """Return moments that also hold the sensitivity of their layers."""
    layers = find_layers(model)
    return {
        name: weighted(own, layers[name].modes(name), found[name]) for name, own in moments.items()
    }


def weighted(moments: Moments, modes: Modes, found: Float64[Tensor, "m m"]) -> Moments:
    """Return a layer's moments that also hold its sensitivity."""
    channel = Layout.of(modes).channel
    groups = found.unsqueeze(0) if channel is None else found.diagonal()[channel].view(-1, 1, 1)
    return replace(moments, sensitivity=groups)


def measure_sensitivity(
    model: nn.Module,
    rows: Rows,
    *,
    centred: bool,
    seed: int = 0,
    batch_size: int = 64,
) -> dict[str, Float64[Tensor, "m m"]]:
    """Measure ``E[g gᵀ]`` of every layer, g the gradient of a random mix of the model's outputs.

    With outputs ``f`` and a standard normal ``ξ``, ``E[(ξᵀ J δ)²] = ‖J δ‖²``: weighing a layer's
    error by it tells, to first order, how far the model's outputs move. No label is read.
    ``centred``: outputs that all rise alike do not count, as for the logits of classes. Outputs are
    the first tensor that the model returns.
    """
    rows, layers = as_rows(rows), find_layers(model)
    sums: dict[str, Tensor] = {}
    steps, draw = dict.fromkeys(layers, 0), generator(seed, "sensitivity")
    with evaluating(model), torch.enable_grad():
        for items in rows.ranges(batch_size):
            batch = rows.batch(items)
            with probed(layers) as probes:
                out = next(tensors_in(rows.forward(model, batch)))
            mix = torch.randn(out.shape, generator=draw, dtype=torch.float64).to(out)
            if centred:
                mix = mix - mix.mean(dim=-1, keepdim=True)
            leaves = [leaf for own in probes.values() for leaf in own]
            slopes = iter(torch.autograd.grad((out * mix).sum(), leaves))
            for name, own in probes.items():
                calls = [Call(place=0, given=leaf) for leaf in own]
                for mask in valid_of(batch.valid, name, calls):
                    slope = next(slopes).double().cpu()
                    g = slope.flatten(0, -2) if mask is None else slope[mask.cpu()]
                    steps[name] += len(g)
                    sums[name] = sums.get(name, 0) + g.mT @ g
    if not all(steps.values()):
        raise DataError("there is no valid step to calibrate on", next_step="check the lengths")
    return {name: total / steps[name] for name, total in sums.items()}


@contextmanager
def probed(layers: Mapping[str, nn.Module]) -> Iterator[dict[str, list[Tensor]]]:
    """Make the outputs of layers leaves that gradients can be taken of.

    Works for frozen models too, and leaves no gradient at any parameter. Yields by layer the zeros
    that were added to its output, call by call.
    """
    leaves: dict[str, list[Tensor]] = {name: [] for name in layers}
    with ExitStack() as stack:
        for name, layer in layers.items():

            def shift(_: nn.Module, __: Any, out: Tensor, name: str = name) -> Tensor:
                leaves[name].append(torch.zeros_like(out, requires_grad=True))
                return out + leaves[name][-1]

            stack.callback(layer.register_forward_hook(shift).remove)
        yield leaves
