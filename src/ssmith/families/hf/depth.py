"""Blocks of a Mamba model as a list that can be shortened."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from ssmith.core.errors import InputError
from ssmith.families.registry import find_selective


def block_count(model: nn.Module) -> int:
    """Return how many blocks a model has; raises as `find_selective` does."""
    return len(_list_of(model)[1])


@contextmanager
def without_block(model: nn.Module, index: int) -> Iterator[None]:
    """Leave one block out inside the ``with``.

    Args:
        model: a Mamba or Falcon-Mamba language model.
        index: place of the block.
    """
    owner, blocks = _list_of(model)
    left = [block for place, block in enumerate(blocks) if place != index]
    owner.layers = nn.ModuleList(left)
    try:
        yield
    finally:
        owner.layers = blocks


def drop_blocks_(model: Any, gone: Collection[int]) -> None:
    """Remove blocks for good: the model and its configuration are those of a shallower one.

    Args:
        model: a Mamba or Falcon-Mamba language model.
        gone: places of the blocks that go; at least one stays.

    Raises:
        InputError: if a place is none of the model's, or no block would stay.
    """
    owner, blocks = _list_of(model)
    if not set(gone) <= set(range(len(blocks))) or len(set(gone)) == len(blocks):
        raise InputError(
            f"blocks {sorted(gone)} are to go", allowed=f"some of 0 to {len(blocks) - 1}, not all"
        )
    left = [block for place, block in enumerate(blocks) if place not in gone]
    block: Any
    for place, block in enumerate(left):
        # Caches keep a layer's state under its number.
        block.layer_idx = block.mixer.layer_idx = place
    owner.layers = nn.ModuleList(left)
    model.config.num_hidden_layers = len(left)


def _list_of(model: nn.Module) -> tuple[Any, nn.ModuleList]:
    """Return the module that runs the blocks, and its list of them."""
    first = next(iter(find_selective(model)))
    path = first.removesuffix(".0.mixer").removesuffix("layers").removesuffix(".")
    owner: Any = model.get_submodule(path)
    return owner, owner.layers
