"""Whether the tensors of an operation fit together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ssmith.core.errors import InputError


def check_shapes(given: Mapping[str, Any], wanted: Mapping[str, tuple[int, ...]]) -> None:
    """Raise `InputError`, naming the first tensor of a record whose shape does not fit."""
    for name, tensor in given.items():
        if isinstance(tensor, Tensor) and tuple(tensor.shape) != wanted[name]:
            raise InputError(f"{name} has shape {tuple(tensor.shape)}", allowed=f"{wanted[name]}")
