"""Blocks of a network as a list that can be shortened."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from ssmith.core.errors import UnsupportedError
from ssmith.core.layers import LayerInfo
from ssmith.core.unit import Coupling, Mode
from ssmith.families.family import Family, Site
from ssmith.families.registry import ssm_sites

KEPT = "ssmith_kept"
"""Attribute of a list that blocks were dropped from: which of the first ones are left."""
_COUNTS = ("num_hidden_layers", "n_layer", "n_layers")
_KINDS, _PLACES = ("layer_types", "layers_block_type"), ("attn_layer_indices",)
"""What configurations call lists of the kind of every block, and of the places of some."""


class ChainFamily(Family):
    """Lists of blocks of one class, of which some hold state space layers."""

    name = "blocks"

    def owns(self, module: nn.Module) -> bool:
        return isinstance(module, nn.ModuleList | nn.Sequential)

    def couplings(self, module: Any) -> tuple[Coupling, ...]:
        return (Coupling(unit="block", grid=(len(module),), slices=(), modes=("shrink",), least=1),)

    def cut_(
        self,
        module: Any,
        coupling: Coupling,
        keep: Bool[Tensor, "..."],
        mode: Mode,
        semantics: str | None = None,
    ) -> None:
        left = [block for block, stays in zip(module, keep.tolist(), strict=True) if stays]
        before = getattr(module, KEPT, range(len(module)))
        setattr(
            module, KEPT, [at for at, stays in zip(before, keep.tolist(), strict=True) if stays]
        )
        del module[:]
        for place, block in enumerate(left):
            # Caches keep a layer's state under its number.
            for part in block.modules():
                if hasattr(part, "layer_idx"):
                    part.layer_idx = place
            module.append(block)

    def info(self, name: str, module: Any) -> LayerInfo:
        raise NotImplementedError(f"{name} is a list of {len(module)} blocks, not a layer")


BLOCKS = ChainFamily()


def chain_of(model: nn.Module) -> Site:
    """Return the list of blocks that holds a network's state space layers, as a site."""
    owners = {_list_above(model, name) for name in ssm_sites(model)}
    name = owners.pop() if len(owners) == 1 else None
    if name is None:
        raise UnsupportedError(
            f"{type(model).__name__} has no single list of blocks that holds its layers",
            allowed="networks whose layers stand in one ModuleList or Sequential",
            next_step="cut state, entry or weight",
        )
    return Site(name=name, module=model.get_submodule(name), family=BLOCKS)


@contextmanager
def without_block(model: nn.Module, index: int) -> Iterator[None]:
    """Leave one block out inside the ``with``, also of what the configuration says of them."""
    site = chain_of(model)
    blocks: Any = site.module
    kept, said = list(blocks), getattr(getattr(model, "config", None), "__dict__", {})
    before = dict(said)
    del blocks[index]
    sync_depth_(model, torch.arange(len(kept)) != index)
    try:
        yield
    finally:
        del blocks[:]
        for block in kept:
            blocks.append(block)
        said.update(before)


def sync_depth_(model: Any, keep: Bool[Tensor, "n"]) -> None:
    """Write into a network's configuration how many blocks are left, and of which kind.

    ``keep`` says which of them stayed.
    """
    config = getattr(model, "config", None)
    left = [place for place, stays in enumerate(keep.tolist()) if stays]
    own = getattr(config, "__dict__", {})
    for key in _KINDS:
        if isinstance(own.get(key), list) and len(own[key]) == len(keep):
            setattr(config, key, [own[key][place] for place in left])
    for key in _PLACES:
        if isinstance(own.get(key), list):
            setattr(config, key, [left.index(place) for place in own[key] if place in left])
    for key in _COUNTS:
        if isinstance(getattr(config, key, None), int):
            setattr(config, key, len(chain_of(model).module))  # type: ignore[arg-type]


def _list_above(model: nn.Module, name: str) -> str | None:
    """Return the outermost list of two or more blocks of one class above a layer."""
    parts = name.split(".")
    for count in range(len(parts)):
        path = ".".join(parts[:count])
        there = model.get_submodule(path)
        if isinstance(there, nn.ModuleList | nn.Sequential) and len({*map(type, there)}) == 1:
            return path
    return None
