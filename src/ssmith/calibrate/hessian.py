"""Second moments of what flows into a mixer's projections, one batch at a time.

With squared error the Hessian of a projection's rows is ``Σ x xᵀ`` of its inputs, the same for all
of them; a depthwise filter has a k × k one of its own.
"""

from __future__ import annotations

from collections.abc import Collection

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from ssmith.core.selective import Statistics
from ssmith.families.mamba.selective import MixerParts, SelectiveLayer
from ssmith.ops.selective_scan import selective_scan

COUNT = "windows"
"""The statistic that counts windows."""


@torch.no_grad()
def hessians(layer: SelectiveLayer, parts: MixerParts, names: Collection[str]) -> Statistics:
    """Return ``Σ x xᵀ`` of the inputs of some projections, and the number of windows.

    ``"conv1d"`` gives (e, k, k) of each channel's lagged inputs.
    """
    found = {
        name: _lagged(layer, parts)
        if name == "conv1d"
        else products(projection_input(parts, name), parts.valid)
        for name in names
    }
    return {**found, COUNT: torch.tensor(float(len(parts.x)), dtype=torch.float64)}


@torch.no_grad()
def input_energies(layer: SelectiveLayer, parts: MixerParts, names: Collection[str]) -> Statistics:
    """Return the diagonals of `hessians`, which is all that an allocation reads.

    ``"conv1d"`` gives (e · k,), channel after channel.
    """
    found = {}
    for name in names:
        if name == "conv1d":
            found[name] = _lagged(layer, parts).diagonal(dim1=-2, dim2=-1).flatten()
        else:
            x = _counted(projection_input(parts, name), parts.valid)
            found[name] = x.flatten(0, 1).double().square().sum(0)
    return {**found, COUNT: torch.tensor(float(len(parts.x)), dtype=torch.float64)}


def projection_input(parts: MixerParts, name: str) -> Float[Tensor, "b l i"]:
    """Return what flows into a projection; for ``conv1d``, before it is lagged."""
    if name == "out_proj":
        y, _ = selective_scan(parts.scan)
        return y
    by_name = {
        "in_proj": parts.hidden, "conv1d": parts.raw, "x_proj": parts.x, "dt_proj": parts.rank,
    }  # fmt: skip
    found = by_name[name]
    if found is None:
        raise NotImplementedError(f"the input of {name} was let go")
    return found


def products(x: Float[Tensor, "b l i"], valid: Bool[Tensor, "b l"] | None) -> Float[Tensor, "i i"]:
    """Return ``Σ x xᵀ`` over valid steps, each window summed in float32 at least."""
    total = torch.zeros(x.shape[-1], x.shape[-1], dtype=torch.float64, device=x.device)
    for window in _counted(x, valid):
        total += window.T @ window
    return total


def lagged_products(
    x: Float[Tensor, "b l e"], taps: int, valid: Bool[Tensor, "b l"] | None
) -> Float[Tensor, "e k k"]:
    """Return ``Σ x_{t−i} x_{t−j}`` of each channel, in the order of a causal filter's taps."""
    padded = functional.pad(x, (0, 0, taps - 1, 0))
    length = x.shape[1]
    lags = [padded[:, lag : lag + length] for lag in range(taps)]
    total = torch.zeros(x.shape[-1], taps, taps, dtype=torch.float64, device=x.device)
    for row, first in enumerate(lags):
        counted = _counted(first, valid)
        for column in range(row, taps):
            found = (counted * lags[column]).sum(1).double().sum(0)
            total[:, row, column] = total[:, column, row] = found
    return total


def _lagged(layer: SelectiveLayer, parts: MixerParts) -> Float[Tensor, "e k k"]:
    taps = int(layer.mixer.conv1d.kernel_size[0])
    return lagged_products(projection_input(parts, "conv1d"), taps, parts.valid)


def _counted(x: Tensor, valid: Tensor | None) -> Tensor:
    """Return inputs with zeros at steps that are padding, in float32 at least."""
    # Products of bfloat16 come out as bfloat16, and such sums are no longer positive definite.
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    return x if valid is None else torch.where(valid[..., None], x, 0.0)
