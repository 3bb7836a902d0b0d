"""Carried states of single sequences: taken out of a cache, put together to a batch again."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor, nn

Row = tuple[Mapping[str, Tensor], ...]
"""What a cache holds of one sequence, by layer: what has a place for each token, and states."""
_STATES = ("conv_states", "recurrent_states")
_PER_TOKEN = ("keys", "values")


def rows_of(cache: Any, lengths: Sequence[int]) -> list[Row]:
    """Return what a cache holds of each sequence of a batch that is padded on the left.

    A row each, with a batch of one and without padding, by the tokens of each so far.
    """
    layers = [dict(_held(layer)) for layer in cache.layers]
    return [
        tuple(
            {name: _one(name, held, place, length) for name, held in layer.items()}
            for layer in layers
        )
        for place, length in enumerate(lengths)
    ]


def cache_of(like: Any, rows: Sequence[Row]) -> Any:
    """Return a cache like another that holds some sequences, padded on the left with zeros."""
    made = copy.copy(like)
    made.layers = [copy.copy(layer) for layer in like.layers]
    for place, layer in enumerate(made.layers):
        for name in _STATES:
            if hasattr(layer, name):
                setattr(layer, name, dict(getattr(layer, name)))
        for name in rows[0][place]:
            _put(layer, name, _joined(name, [row[place][name] for row in rows]))
    return made


def poison_(cache: Any) -> None:
    """Fill a cache with NaN, so that whoever still reads it cannot go unnoticed."""
    for layer in cache.layers:
        for _, held in _held(layer):
            held.fill_(torch.nan)


def mask_for(lengths: Sequence[int], device: torch.device) -> Int64[Tensor, "b t"]:
    """Return which places of a batch padded on the left hold tokens, the next one included."""
    longest = max(lengths) + 1
    places = torch.arange(longest, device=device)
    starts = torch.tensor([longest - 1 - length for length in lengths], device=device)
    return (places[None] >= starts[:, None]).long()


def _held(layer: Any) -> Iterator[tuple[str, Tensor]]:
    for name in _STATES:
        for number, held in (getattr(layer, name, None) or {}).items():
            if held is not None:
                yield f"{name}.{number}", held
    for name in _PER_TOKEN:
        held = getattr(layer, name, None)
        if isinstance(held, Tensor) and held.numel():
            yield name, held


def _one(name: str, held: Tensor, place: int, length: int) -> Tensor:
    row = held[place : place + 1]
    return (row[..., row.shape[-2] - length :, :] if name in _PER_TOKEN else row).clone()


def _joined(name: str, parts: list[Tensor]) -> Tensor:
    if name in _PER_TOKEN:
        longest = max(part.shape[-2] for part in parts)
        parts = [nn.functional.pad(part, (0, 0, longest - part.shape[-2], 0)) for part in parts]
    return torch.cat(parts)


def _put(layer: Any, name: str, value: Tensor) -> None:
    whole, _, number = name.partition(".")
    if number:
        getattr(layer, whole)[int(number)] = value
    else:
        setattr(layer, whole, value)
