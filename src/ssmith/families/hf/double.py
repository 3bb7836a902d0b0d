"""A Hugging Face model in float64 throughout, which transformers' own norms and heads are not."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


@contextmanager
def in_double(model: nn.Module) -> Iterator[nn.Module]:
    """Yield a copy of a model that computes in float64, norms and logits included.

    Inside the block, code that narrows a float64 tensor to float32 leaves it as it is.
    """
    twin: Any = copy.deepcopy(model).double()
    if getattr(twin, "_can_set_experts_implementation", lambda: False)():
        # The grouped products of experts know no float64.
        twin.set_experts_implementation("eager")
    with _KeepDouble():
        yield twin


class _KeepDouble(TorchFunctionMode):
    """Leaves float64 tensors in float64 where they were to become float32."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run a function of torch with every narrowing taken out."""
        given = kwargs or {}
        first = args[0] if args else None
        if isinstance(first, Tensor) and first.dtype == torch.float64:
            if func is Tensor.float:
                return first
            args = tuple(_widened(item) for item in args)
            given = {name: _widened(item) for name, item in given.items()}
        return func(*args, **given)


def _widened(argument: Any) -> Any:
    return torch.float64 if argument is torch.float32 else argument
