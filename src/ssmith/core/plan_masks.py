"""Masks and tensors of a plan on disk: lists that people read, bits where nobody would."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool
from safetensors import SafetensorError
from safetensors.torch import load as from_safetensors
from torch import Tensor

from ssmith.core.errors import ArtefactError, PlanError

# Lists of more indices are read by nobody.
_READABLE = 2**16
# Far beyond any layer; a larger grid in a file is a mistake that would fill the memory.
_LARGEST_GRID = 10**9


def mask_as_json(mask: Bool[Tensor, "..."]) -> list[Any] | None:
    """Return kept indices, nested along leading axes; None where they are too many to read."""
    return _indices(mask) if mask.numel() <= _READABLE else None


def packed(mask: Bool[Tensor, "..."]) -> Tensor:
    """Return a mask as bits, eight to a byte."""
    return torch.from_numpy(np.packbits(mask.cpu().numpy().reshape(-1)))


def read_mask(name: str, grid: Any, kept: Any, bits: Tensor | None) -> Bool[Tensor, "..."]:
    """Return the mask that a plan's file holds."""
    sizes = isinstance(grid, list) and all(type(size) is int and size >= 0 for size in grid)
    if not sizes or not grid or math.prod(grid) > _LARGEST_GRID:
        raise PlanError(f"{name}: grid is {grid!r}", allowed="the sizes of its axes")
    if kept is None:
        count = math.prod(grid)
        if bits is None or bits.dtype != torch.uint8 or bits.numel() != (count + 7) // 8:
            raise PlanError(f"{name}: its mask is not among the plan's tensors")
        flat = np.unpackbits(bits.numpy(), count=count).astype(bool)
        return torch.from_numpy(flat).reshape(grid)
    mask = torch.zeros(grid, dtype=torch.bool)
    _fill(name, mask, kept)
    return mask


def read_tensors(file: Path, name: Any, digest: Any) -> dict[str, Tensor]:
    """Return the tensors beside a plan's file."""
    if name is None:
        return {}
    if not isinstance(name, str) or Path(name).name != name:
        raise PlanError(f"{file}: tensors is {name!r}", allowed="the name of a file beside it")
    place = file.parent / name
    try:
        content = place.read_bytes()
    except OSError as error:
        raise ArtefactError(
            f"cannot read {place}: {error.strerror or error}",
            next_step=f"it holds the new values of {file.name}: keep the two together",
        ) from error
    if hashlib.sha256(content).hexdigest() != digest:
        raise PlanError(
            f"{place} is not the file that {file.name} names",
            allowed="the two files as they were written together",
        )
    try:
        return from_safetensors(content)
    except SafetensorError as error:
        raise PlanError(f"{place} is no safetensors file ({error})") from error


def _indices(mask: Bool[Tensor, "..."]) -> list[Any]:
    """Return kept indices; a mask of several axes nests along its leading ones."""
    if mask.ndim > 1:
        return [_indices(row) for row in mask]
    return [int(index) for index in mask.nonzero().flatten()]


def _fill(name: str, mask: Bool[Tensor, "..."], kept: Any) -> None:
    if not isinstance(kept, list):
        raise PlanError(f"{name}: keep is {kept!r}", allowed="a list of indices")
    if mask.ndim > 1:
        if len(kept) != mask.shape[0]:
            raise PlanError(f"{name}: {len(kept)} rows of indices", allowed=f"{mask.shape[0]} rows")
        for row, indices in zip(mask, kept, strict=True):
            _fill(name, row, indices)
        return
    for index in kept:
        valid = isinstance(index, int) and not isinstance(index, bool)
        if not valid or not 0 <= index < mask.shape[0]:
            raise PlanError(f"{name}: index {index!r}", allowed=f"integers in [0, {mask.shape[0]})")
        mask[index] = True
