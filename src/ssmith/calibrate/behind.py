"""Which map runs last in a block, and by what its output is multiplied in the stream, if added."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ssmith.calibrate.observe import observe

_LINEAR = 1e-3
"""Of the change of a stream: what a map that is the last one of its block may leave unexplained."""
_COARSE = 1e-4


def last_linear(
    run: Callable[[], Any], block: nn.Module, *, once: bool = False
) -> tuple[str, nn.Linear] | None:
    """Return the linear layer of a block that runs last, and its name there; None if none runs.

    ``once`` leaves out those that run several times.
    """
    inside = {name: part for name, part in block.named_modules() if isinstance(part, nn.Linear)}
    calls = observe(run, inside)
    order = {own[-1].place: name for name, own in calls.items() if (len(own) == 1 if once else own)}
    if not order:
        return None
    name = order[max(order)]
    return name, inside[name]


def scale_in_stream(
    linear: nn.Linear,
    given: Float[Tensor, "b l e"],
    stream: Callable[[], Float[Tensor, "b l m"]],
) -> float | None:
    """Return by what a map's output is multiplied as it is added to a stream; None if it is not.

    Tried: with twice its weight the stream moves by as much of what it gave, in one direction.
    ``given`` is what the map is given where the stream is what is returned.
    """
    old, before = linear.weight.data, stream().double()
    try:
        linear.weight.data = 2 * old
        moved = stream().double() - before
    finally:
        linear.weight.data = old
    gave = given.double() @ old.double().mT
    if gave.shape != moved.shape or not float(gave.square().sum()):
        return None
    scale = float((moved * gave).sum() / gave.square().sum())
    left, step = (moved - scale * gave).square().sum(), torch.finfo(old.dtype).eps
    # Where numbers are coarse, so is the stream before and after.
    rounded = 4 * step**2 * before.square().sum()
    if not float(left) < _LINEAR**2 * float(moved.square().sum()) + float(rounded):
        return None
    # To so many digits every batch agrees on it.
    return float(f"{scale:.4g}" if step < _COARSE else f"{scale:.3g}")
