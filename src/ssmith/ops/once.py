"""Gradients that are known once: a second derivative is refused by name, and never wrong."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor

from ssmith.core.errors import UnsupportedError

Backward = Callable[..., tuple[Any, ...]]


class _Refused(torch.autograd.Function):
    """Hands gradients on, and has none of its own; knows what they were computed from."""

    @staticmethod
    def forward(ctx: Any, name: str, count: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.name = name
        return tuple(gradient.view_as(gradient) for gradient in tensors[:count])

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> Any:
        raise UnsupportedError(
            f"a second derivative of {ctx.name}, whose gradient is computed by a kernel",
            allowed="first derivatives",
            next_step="run the model without the engine (outside `with engine(model)`, or after "
            'restore_(model)), or the operation under use_backend("reference")',
        )


def once(name: str) -> Callable[[Backward], Backward]:
    """Return a decorator of an operation's backward that is itself not differentiable.

    It raises `UnsupportedError` when its results are differentiated, which autograd would take for
    a lack of a formula.
    """

    def decorate(backward: Backward) -> Backward:
        @wraps(backward)
        def wrapped(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
            again = torch.is_grad_enabled()
            with torch.no_grad():
                found = backward(ctx, *gradients)
            if not again:
                return found
            places = [place for place, item in enumerate(found) if isinstance(item, Tensor)]
            made = [found[place].detach().requires_grad_() for place in places]
            # Reached from these, or nobody who asks for a derivative by them would be refused.
            given = [item for item in (*ctx.saved_tensors, *gradients) if item is not None]
            sources = [item for item in given if item.requires_grad]
            named: Any = _Refused.apply(  # type: ignore[no-untyped-call]
                name, len(made), *made, *sources
            )
            result = list(found)
            for place, tensor in zip(places, named, strict=True):
                result[place] = tensor
            return tuple(result)

        return wrapped

    return decorate
