"""Weights on disk: safetensors only, whole, finite, each tensor once."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from ssmith.artefact.layout import CONFIG, INDEX, PICKLES, WEIGHTS
from ssmith.core.errors import ArtefactError, ModelError, NumericalError, UnsupportedError
from ssmith.core.files import read_json

_LONGEST_NAME = 256
_NOT_STORABLE = torch.complex128


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """Return every tensor of a model that is saved, on the CPU."""
    tensors: dict[str, Tensor] = {}
    for name, value in model.state_dict(keep_vars=True).items():
        if not isinstance(value, Tensor):
            raise UnsupportedError(
                f"{name} is a {type(value).__name__}, which a file of tensors does not hold",
                next_step="keep it in the code that builds the network",
            )
        if is_lazy(value) or value.is_meta:
            raise UnsupportedError(
                f"{name} has no numbers yet", next_step="run the network once before it is saved"
            )
        check_numbers({name: value})
        tensors[name] = value.detach().cpu()
    return tensors


def check_numbers(tensors: Mapping[str, Tensor]) -> None:
    """Refuse to write what could not be loaded again: numbers that are not finite."""
    for name, value in tensors.items():
        if not_finite(value):
            raise NumericalError(
                f"{name} has non-finite values; nothing was written",
                next_step="train again with a lower rate",
            )


def shared_names(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Return the further names of tensors that have several: name → the one it is stored under."""
    first: dict[Any, str] = {}
    shared = {}
    for name, value in tensors.items():
        # Without memory, a tensor is known by the one that holds it.
        place = (
            id(value) if value.is_meta
            else (value.data_ptr(), value.dtype, value.shape, value.stride())
        )  # fmt: skip
        stored = first.setdefault(place, name)
        if value.numel() and stored != name:
            shared[name] = stored
    return shared


def packed(tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> bytes:
    """Return tensors as safetensors; double complex ones as pairs of numbers."""
    stored = {}
    for name, value in tensors.items():
        # Slices of one memory would be refused, or stored with all of it.
        whole = value.untyped_storage().nbytes() == value.numel() * value.element_size()
        laid = value.contiguous() if whole else value.clone(memory_format=torch.contiguous_format)
        stored[name] = torch.view_as_real(laid) if laid.dtype == _NOT_STORABLE else laid
    return to_safetensors(stored, metadata)


def complex_names(tensors: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Return the names of tensors that `packed` stores as pairs of numbers."""
    return tuple(name for name, value in tensors.items() if value.dtype == _NOT_STORABLE)


def read_weights(directory: Path, pairs: Iterable[str] = ()) -> dict[str, Tensor]:
    """Return a saved model's tensors, from one file or from shards."""
    tensors: dict[str, Tensor] = {}
    for path in files_of(directory):
        tensors |= read_tensors(path)
    for name in pairs:
        value = tensors.get(name)
        if value is None or value.dtype != torch.float64 or value.shape[-1:] != (2,):
            raise ArtefactError(
                f"{directory}: {name} is no complex tensor", next_step="restore it from its source"
            )
        tensors[name] = torch.view_as_complex(value)
    check_finite(tensors, directory)
    return tensors


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of one file; raises `ArtefactError` if it is missing or damaged."""
    if not path.is_file():
        raise missing_weights(path)
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise _damaged(path, error) from error


def files_of(directory: Path) -> list[Path]:
    """Return the files of the weights: one, or the shards an index names."""
    if (directory / WEIGHTS).is_file() or not (directory / INDEX).is_file():
        return [directory / WEIGHTS]
    content = read_json(directory / INDEX)
    shards: Any = content.get("weight_map") if isinstance(content, dict) else None
    named = list(shards.values()) if isinstance(shards, dict) else []
    if not named or not all(map(is_file_name, named)):
        raise ArtefactError(
            f"{directory / INDEX} names no files", next_step="restore it from its source"
        )
    return [directory / name for name in sorted(set(named))]


def is_file_name(name: object) -> bool:
    """Return whether a name that stands in a file is that of a neighbour."""
    plain = isinstance(name, str) and Path(name).name == name and "\0" not in name
    return plain and len(os.fsencode(str(name))) < _LONGEST_NAME


def shapes_in(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor in a file; reads no tensor."""
    if not path.is_file():
        raise missing_weights(path)
    try:
        with safe_open(path, framework="pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.offset_keys()}
    except (SafetensorError, OSError) as error:
        raise _damaged(path, error) from error


def numbers_in(directory: Path) -> int:
    """Return how many numbers the weights in a directory hold; reads no tensor."""
    return sum(
        math.prod(shape) for path in files_of(directory) for shape in shapes_in(path).values()
    )


def missing_weights(path: Path) -> ArtefactError:
    """Return the error for weights that are not there, with the cure if pickles are."""
    pickles = sorted(item.name for item in path.parent.iterdir() if item.suffix in PICKLES)
    beside = f"; {pickles[0]} is a pickle and is not opened" if pickles else ""
    return ArtefactError(
        f"{path.parent} has no {path.name}{beside}",
        allowed="safetensors weights",
        next_step="convert them to safetensors where you trust them" if pickles else "",
    )


def not_finite(value: Tensor) -> int:
    """Return how many numbers of a tensor are NaN or infinite."""
    if not (value.is_floating_point() or value.is_complex()):
        return 0
    # Types of one byte have no test of their own.
    wide = value.float() if value.element_size() == 1 else value
    return 0 if bool(torch.isfinite(wide).all()) else int((~torch.isfinite(wide)).sum())


def check_finite(tensors: Mapping[str, Tensor], directory: Path) -> None:
    """Refuse weights that hold NaN or an infinity."""
    for name, value in tensors.items():
        bad = not_finite(value)
        if bad:
            raise ModelError(
                f"{directory}: {name} has {bad} non-finite values of {value.numel()}",
                allowed="finite weights",
                next_step="train again with a lower rate, or restore an earlier checkpoint",
            )


def check_size(named: object, stored: int, directory: Path) -> None:
    """Refuse a configuration of more than the weights hold, before memory is asked for it."""
    if not isinstance(named, int) or named > stored:
        raise ArtefactError(
            f"{directory}: {CONFIG} names a size of {named!r}, the weights hold {stored} numbers",
            next_step="the files do not belong together; restore them from their source",
        )


def check_same(
    given: Mapping[str, tuple[int, ...]], wanted: Mapping[str, tuple[int, ...]], directory: Path,
    *, next_step: str = "the file belongs to another model; restore it from its source",
) -> None:  # fmt: skip
    """Refuse weights that are not exactly a model's."""
    sizes = [
        f"{name} is {given[name]}, not {shape}"
        for name, shape in wanted.items()
        if name in given and given[name] != shape
    ]
    faults = {
        "lack": sorted(set(wanted) - set(given)), "hold unknown": sorted(set(given) - set(wanted)),
        "differ:": sizes,
    }  # fmt: skip
    said = [f"{kind} {names[:3]}" for kind, names in faults.items() if names]
    if said:
        raise ArtefactError(f"{directory}: the weights {', '.join(said)}", next_step=next_step)


def _damaged(path: Path, error: Exception) -> ArtefactError:
    return ArtefactError(
        f"{path} is truncated or not safetensors ({error})", next_step="restore it from its source"
    )
