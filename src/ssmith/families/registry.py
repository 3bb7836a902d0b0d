"""Which state space layers a model has, whatever model it is."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from ssmith.core.errors import ModelError, UnsupportedError
from ssmith.core.layers import LayerInfo, Modes
from ssmith.families.hf import selective_layers, selective_scan_of
from ssmith.families.lti import LTILayer
from ssmith.ops.backends import Op


def find_layers(model: nn.Module) -> dict[str, LTILayer]:
    """Return every layer that can be cut by its dotted name, in the model's order.

    Args:
        model: any module.

    Returns:
        Layers by name, at least one.

    Raises:
        ModelError: if there is none.
        UnsupportedError: if there are selective layers only, which are cut in another way.
    """
    found = _lti_layers(model)
    if found:
        return found
    if selective_layers(model):
        raise UnsupportedError(
            f"{type(model).__name__} has selective layers, which have no fixed modes",
            allowed="models with S5Layer or S4DLayer inside",
            next_step="prune it with ssmith.prune_selective_, or `ssmith prune --a-log 0.5 …`",
        )
    raise _nothing(model)


def describe(model: nn.Module) -> tuple[LayerInfo, ...]:
    """Return what each state space layer holds, selective ones too (see `LayerInfo`)."""
    lti = tuple(layer.info(name) for name, layer in _lti_layers(model).items())
    layers = lti + selective_layers(model)
    if not layers:
        raise _nothing(model)
    return layers


def scan_of(model: nn.Module) -> Op:
    """Return the operation a model scans with.

    Args:
        model: any module.

    Returns:
        The operation.

    Raises:
        ModelError: if there is no state space layer.
    """
    selective = selective_scan_of(model)
    if selective is None and not _lti_layers(model):
        raise _nothing(model)
    return selective or "diagonal_scan"


def modes_of(model: nn.Module) -> tuple[Modes, ...]:
    """Return every layer as modes in float64 (see `Modes`)."""
    return tuple(layer.modes(name) for name, layer in find_layers(model).items())


def model_digest(model: nn.Module) -> str:
    """Return a SHA-256 over the names, types, shapes and bytes of all tensors of a model."""
    return tensors_digest(sorted(model.state_dict().items()))


def tensors_digest(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """Return the digest of a model whose tensors come one after the other, sorted by name."""
    digest = hashlib.sha256()
    for name, tensor in tensors:
        # An empty tensor may have any strides and still call itself contiguous; a clone may not.
        value = tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        digest.update(f"{name}|{value.dtype}|{tuple(value.shape)}|".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _lti_layers(model: nn.Module) -> dict[str, LTILayer]:
    return {name: part for name, part in model.named_modules() if isinstance(part, LTILayer)}


def _nothing(model: nn.Module) -> ModelError:
    return ModelError(
        f"{type(model).__name__} has no state space layer ssmith knows",
        allowed="models with S5Layer or S4DLayer inside, or Hugging Face Mamba models",
        next_step="build the model from ssmith.families, or load one with ssmith.load",
    )
