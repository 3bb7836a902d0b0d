"""One dtype for the plain torch paths: never narrower than float32, whatever comes in."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce
from typing import Any, TypeVar

import torch
from torch import Tensor

Inputs = TypeVar("Inputs")


def common_dtype(tensors: list[Tensor]) -> torch.dtype:
    """Return the widest floating-point dtype of some tensors, at least float32."""
    dtypes = [tensor.dtype for tensor in tensors if tensor.is_floating_point()]
    return reduce(torch.promote_types, dtypes, torch.float32)


def widened(inputs: Inputs) -> Inputs:
    """Return a record of tensors with all floating-point ones in their `common_dtype`."""
    given: dict[str, Any] = {
        name: value for name, value in vars(inputs).items() if isinstance(value, Tensor)
    }
    dtype = common_dtype(list(given.values()))
    changed = {name: value.to(dtype) for name, value in given.items() if value.is_floating_point()}
    return replace(inputs, **changed)  # type: ignore[type-var]
