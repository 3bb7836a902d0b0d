"""Which state space layers a model has, whatever model it is."""

from __future__ import annotations

import hashlib

import torch
from torch import nn

from ssmith.core.errors import ModelError
from ssmith.core.layers import LayerInfo, Modes
from ssmith.families.lti import LTILayer


def find_layers(model: nn.Module) -> dict[str, LTILayer]:
    """Return every state space layer by its dotted name, in the model's order.

    Args:
        model: any module.

    Returns:
        Layers by name, at least one.

    Raises:
        ModelError: if there is none.
    """
    found = {name: part for name, part in model.named_modules() if isinstance(part, LTILayer)}
    if not found:
        raise ModelError(
            f"{type(model).__name__} has no state space layer ssmith knows",
            allowed="models with S5Layer or S4DLayer inside",
            next_step="build the model from ssmith.families, or load one with ssmith.load",
        )
    return found


def describe(model: nn.Module) -> tuple[LayerInfo, ...]:
    """Return what each state space layer holds (see `LayerInfo`)."""
    return tuple(layer.info(name) for name, layer in find_layers(model).items())


def modes_of(model: nn.Module) -> tuple[Modes, ...]:
    """Return every layer as modes in float64 (see `Modes`)."""
    return tuple(layer.modes(name) for name, layer in find_layers(model).items())


def model_digest(model: nn.Module) -> str:
    """Return a SHA-256 over the names, types, shapes and bytes of all tensors of a model."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        # An empty tensor may have any strides and still call itself contiguous; a clone may not.
        value = tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        digest.update(f"{name}|{value.dtype}|{tuple(value.shape)}|".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
