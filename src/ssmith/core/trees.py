"""Batches of any build: dicts, tuples, lists and objects that hold tensors."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

_NUMBERS = "biufc"


def mapped(tree: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Return a batch of the same build with every tensor changed.

    Tensors and arrays are found in dicts, tuples, lists, dataclasses and objects with a method
    ``to``; anything else stays as it is. Arrays are tensors by the time they are changed.
    """
    if isinstance(tree, Tensor):
        return change(tree)
    if isinstance(tree, np.ndarray) and tree.dtype.kind in _NUMBERS:
        return change(torch.as_tensor(tree))
    if isinstance(tree, list | tuple):
        made: Any = [mapped(item, change) for item in tree]
        return type(tree)(*made) if hasattr(tree, "_fields") else type(tree)(made)
    if isinstance(tree, dict):
        return {key: mapped(item, change) for key, item in tree.items()}
    if not _opens(tree):
        return tree
    made = copy.copy(tree)
    for name, item in vars(tree).items():
        object.__setattr__(made, name, mapped(item, change))
    return made


def tensors_in(tree: Any) -> Iterator[Tensor]:
    """Yield every tensor of a batch, in order."""
    found: list[Tensor] = []

    def note(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    mapped(tree, note)
    yield from found


def place_of(model: nn.Module) -> torch.device:
    """Return the device of a network's first parameter or buffer with memory (CPU if none has)."""
    for tensor in (*model.parameters(), *model.buffers()):
        if not tensor.is_meta:
            return tensor.device
    return torch.device("cpu")


def dtype_of(model: nn.Module) -> torch.dtype | None:
    """Return the type of a network's first real floating-point tensor (None if there is none)."""
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.is_floating_point():
            return tensor.dtype
    return None


def placed(tree: Any, model: nn.Module) -> Any:
    """Return a batch on a network's device, real numbers in its type."""
    device, dtype = place_of(model), dtype_of(model)
    return mapped(
        tree, lambda item: item.to(device, dtype if item.is_floating_point() else item.dtype)
    )


def digest_of(tree: Any) -> str:
    """Return a SHA-256 over names, types, shapes and bytes of a batch's tensors, and its words."""
    digest = hashlib.sha256()
    _add(digest.update, "", tree)
    return digest.hexdigest()


def _add(update: Callable[[bytes], None], name: str, tree: Any) -> None:
    if isinstance(tree, np.ndarray) and tree.dtype.kind in _NUMBERS:
        tree = torch.as_tensor(tree)
    if isinstance(tree, Tensor):
        # An empty tensor may have any strides and still call itself contiguous.
        value = tree.detach().cpu().clone(memory_format=torch.contiguous_format)
        update(f"{name}|{value.dtype}|{tuple(value.shape)}|".encode())
        update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    elif isinstance(tree, Mapping):
        for key, item in tree.items():
            _add(update, f"{name}.{key}", item)
    elif isinstance(tree, list | tuple):
        for place, item in enumerate(tree):
            _add(update, f"{name}.{place}", item)
    elif _opens(tree):
        _add(update, name, vars(tree))
    elif tree is None or isinstance(tree, str | bytes | bool | int | float):
        update(f"{name}|{tree!r}|".encode())
    else:
        update(f"{name}|{type(tree).__qualname__}|".encode())


def _opens(tree: Any) -> bool:
    """Return whether an object is one whose attributes are looked at."""
    if isinstance(tree, type) or not hasattr(tree, "__dict__"):
        return False
    return dataclasses.is_dataclass(tree) or isinstance(tree, Mapping) or hasattr(tree, "to")
