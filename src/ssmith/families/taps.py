"""What goes into and comes out of every state space layer while a model runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ssmith.families.registry import find_layers

Tap = dict[str, tuple[Tensor, Tensor]]


@contextmanager
def probed(model: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Make the outputs of all state space layers leaves that gradients can be taken of.

    Works for frozen models too, and leaves no gradient at any parameter.

    Args:
        model: any module with S5 or S4D layers inside; run it within the block.

    Yields:
        Layer name → zeros that were added to its output, (b, l, m); pass them to
        ``torch.autograd.grad``. Filled by each forward pass.
    """
    leaves: dict[str, Tensor] = {}
    hooks = []
    for name, layer in find_layers(model).items():

        def shift(_: nn.Module, __: Any, out: Tensor, name: str = name) -> Tensor:
            leaves[name] = torch.zeros_like(out, requires_grad=True)
            return out + leaves[name]

        hooks.append(layer.register_forward_hook(shift))
    try:
        yield leaves
    finally:
        for hook in hooks:
            hook.remove()


class _EnoughError(Exception):
    """Ends a forward pass whose rest nobody needs."""


@contextmanager
def tapped(model: nn.Module, *, last: str | None = None) -> Iterator[Tap]:
    """Record input and output of each state space layer, the latest forward pass only.

    Args:
        model: any module with S5 or S4D layers inside; run it within the block.
        last: name of a layer after which the forward pass, and with it the block, ends.

    Yields:
        Layer name → (input, output), both (b, l, m), detached. Filled by each forward pass.
    """
    seen: Tap = {}
    hooks = []
    for name, layer in find_layers(model).items():

        def record(_: nn.Module, given: tuple[Any, ...], out: Tensor, name: str = name) -> None:
            seen[name] = (given[0].detach(), out.detach())
            if name == last:
                raise _EnoughError

        hooks.append(layer.register_forward_hook(record))
    try:
        yield seen
    except _EnoughError:
        pass
    finally:
        for hook in hooks:
            hook.remove()
