"""Blocks of a network as a list that can be shortened."""

from __future__ import annotations

import copy
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
from ssmith.families.parts.stock import is_stock, stock_of
from ssmith.families.registry import ssm_sites

KEPT = "ssmith_kept"
"""Attribute of a list that blocks were dropped from: which of the first ones are left."""
_COUNTS = ("num_hidden_layers", "n_layer", "n_layers")
_KINDS, _PLACES = ("layer_types", "layers_block_type"), ("attn_layer_indices", "hybrid_layer_ids")
"""What configurations call lists of the kind of every block, and of the places of some."""
_PERIODS = (
    ("attn_layer_period", "attn_layer_offset"), ("expert_layer_period", "expert_layer_offset"),
)  # fmt: skip
"""What configurations that count kinds off call every how many, and from which on."""
_TIES = "_tied_weights_keys"
_PAIR = 2
_NUMBERED = "layer_dic"
"""Where parts that several blocks share look up their own for the place of a block."""


class ChainFamily(Family):
    """Lists of blocks, of which some hold state space layers."""

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
        _renumber_(module, keep)
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
    before, keep = dict(said), torch.arange(len(kept)) != index
    numbers = _renumber_(blocks, keep)
    del blocks[index]
    sync_depth_(model, keep)
    try:
        yield
    finally:
        for part, own in numbers:
            setattr(part, _NUMBERED, own)
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
    for (every, first), found in _counted_off(config, keep).items():
        if found is None:
            raise UnsupportedError(
                f"{type(model).__name__} counts kinds of blocks off by {every}, and what is left "
                "has no period",
                allowed="blocks at its ends", next_step="remove others",
            )  # fmt: skip
        # An offset is below its period at all times.
        order = ((every, found[0]), (first, found[1]))
        for key, value in order if found[0] > getattr(config, first) else reversed(order):
            setattr(config, key, value)
    for key in _COUNTS:
        if isinstance(getattr(config, key, None), int):
            setattr(config, key, len(chain_of(model).module))  # type: ignore[arg-type]


def name_ties_(model: Any) -> None:
    """Let a model of transformers name the parts that its blocks share by their places now."""
    inner = [name for name, part in model.named_modules() if _TIES in vars(part)]
    if not inner:
        return
    with torch.device("meta"):
        built = stock_of(type(model))(copy.deepcopy(model.config))
    for name in inner:
        setattr(model.get_submodule(name), _TIES, getattr(built.get_submodule(name), _TIES))
    model.all_tied_weights_keys = built.all_tied_weights_keys


def can_go(model: Any, index: int) -> bool:
    """Return whether a block can be removed: a stock configuration can say what is left.

    A part that blocks share stays in two of them, and in all where each block has something of its
    own in it (Zamba2).
    """
    blocks: Any = chain_of(model).module
    keep = torch.arange(len(blocks)) != index
    own = {id(value) for value in blocks[index].parameters()}
    holding = sum(any(id(value) in own for value in block.parameters()) for block in blocks)
    return (
        None not in _counted_off(getattr(model, "config", None), keep).values()
        and holding != _PAIR
        and not any(hasattr(part, _NUMBERED) for part in blocks[index].modules())
    )


def _counted_off(
    config: Any, keep: Bool[Tensor, "n"]
) -> dict[tuple[str, str], tuple[int, int] | None]:
    """Return by names the periods and offsets of the kinds that are left; None for one of none."""
    if config is None or any(key in vars(config) for key in _KINDS):
        return {}
    found = {}
    for names in _PERIODS:
        every, first = (getattr(config, name, None) for name in names)
        if every is not None and first is not None:
            kinds = [place % every == first for place, stays in enumerate(keep.tolist()) if stays]
            found[names] = _period_of(kinds)
    return found


def _period_of(kinds: list[bool]) -> tuple[int, int] | None:
    """Return every how many, and from which on, something is there; None if by no period."""
    for every in range(1, len(kinds) + 2):
        for first in range(every):
            if all((place % every == first) == kind for place, kind in enumerate(kinds)):
                return every, first
    return None


def _renumber_(blocks: Any, keep: Bool[Tensor, "n"]) -> list[tuple[nn.Module, dict[int, int]]]:
    """Let shared parts look up their own by the new places; return what they looked up in."""
    left = [place for place, stays in enumerate(keep.tolist()) if stays]
    before = [(part, getattr(part, _NUMBERED)) for part in blocks.modules()
              if hasattr(part, _NUMBERED)]  # fmt: skip
    for part, own in before:
        now = {left.index(place): number for place, number in own.items() if place in left}
        setattr(part, _NUMBERED, now)
    return before


def _list_above(model: nn.Module, name: str) -> str | None:
    """Return the outermost list of blocks above a layer, of one class or of transformers' own."""
    parts = name.split(".")
    for count in range(len(parts)):
        path = ".".join(parts[:count])
        there = model.get_submodule(path)
        if not isinstance(there, nn.ModuleList | nn.Sequential):
            continue
        stock = isinstance(there, nn.ModuleList) and all(map(is_stock, there))
        if stock or len({*map(type, there)}) == 1:
            return path
    return None
