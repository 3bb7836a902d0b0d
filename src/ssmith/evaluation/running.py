"""How a model is run when it is measured: evaluation mode, no gradients, its own dtype."""

from __future__ import annotations

import copy
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn

from ssmith.core import trees
from ssmith.core.errors import ModelError
from ssmith.core.sequences import Sequences


@runtime_checkable
class StepModel(Protocol):
    """The part of a sequence model that runs one time step at a time."""

    def initial_state(self, batch_size: int) -> Any:
        """Return the state before the first step."""

    def step(self, x_t: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Return the output after one more step, and the new state."""


def dtype_of(model: nn.Module) -> torch.dtype:
    """Return the dtype of the first real floating-point parameter or buffer (else float32)."""
    return trees.dtype_of(model) or torch.float32


ModuleT = TypeVar("ModuleT", bound=nn.Module)


def copy_in(model: ModuleT, dtype: torch.dtype) -> ModuleT:
    """Return an independent copy in a real dtype; complex tensors become as wide."""
    twin = copy.deepcopy(model)
    # Module.to() with a real dtype would drop the imaginary parts.
    for tensor in [*twin.parameters(), *twin.buffers()]:
        if tensor.is_complex():
            tensor.data = tensor.data.to(dtype.to_complex())
        elif tensor.is_floating_point():
            tensor.data = tensor.data.to(dtype)
    return twin


def double_copy(model: ModuleT) -> ModuleT:
    """Return an independent float64 copy; complex tensors become complex128 as well."""
    return copy_in(model, torch.float64)


def inputs_for(model: nn.Module, part: Sequences) -> tuple[Tensor, Tensor]:
    """Return ``x`` and ``lengths`` on the model's device; a series takes the model's dtype."""
    placed: tuple[Tensor, Tensor] = trees.placed((part.x, part.lengths), model)
    return placed


def stepping(model: nn.Module) -> StepModel:
    """Return the model as one that can step."""
    if not isinstance(model, StepModel):
        raise ModelError(
            f"{type(model).__name__} cannot step",
            allowed="a sequence model with initial_state(batch_size) and step(x_t, state)",
        )
    return model
