"""A language model as embedding and blocks, one at a time; and one block's weights and masks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from ssmith.families.mamba.selective import SelectiveLayer
from ssmith.families.mamba.units import resize_
from ssmith.families.masks import masks_of, remove_mask_
from ssmith.families.registry import apply_masks_, find_selective

_MIXER = "mixer"


@runtime_checkable
class Blocks(Protocol):
    """Where a walk gets its blocks from: a model in memory, or files that are read one by one."""

    @property
    def layers(self) -> tuple[str, ...]:
        """Dotted names of the mixers, in the order they run."""

    @property
    def lasting(self) -> bool:
        """Whether changes to a block outlive the ``with`` it was held in."""

    def embed(self, ids: Int64[Tensor, "b l"]) -> Float[Tensor, "b l m"]:
        """Return what the first block is given."""

    def block(self, index: int) -> AbstractContextManager[nn.Module]:
        """Hold a block with its weights inside the ``with``."""


@dataclass(frozen=True)
class ModelBlocks:
    """The blocks of a model in memory.

    Args:
        model: a Mamba or Falcon-Mamba language model; blocks are its own.
    """

    model: Any

    @property
    def layers(self) -> tuple[str, ...]:
        """Dotted names of the mixers, in the order they run."""
        return tuple(find_selective(self.model))

    @property
    def lasting(self) -> bool:
        """True: blocks are the model's own."""
        return True

    def embed(self, ids: Int64[Tensor, "b l"]) -> Float[Tensor, "b l m"]:
        """Return what the first block is given."""
        embedded: Tensor = self.model.get_input_embeddings()(ids)
        return embedded

    @contextmanager
    def block(self, index: int) -> Iterator[nn.Module]:
        """Yield the block itself."""
        yield self.model.get_submodule(block_name(self.layers[index]))


@dataclass(frozen=True, kw_only=True)
class BlockState:
    """Everything one block is after a cut, as tensors.

    Args:
        tensors: its parameters by name inside the block.
        masks: per parameter that has one, its mask; True = free.
        fills: per masked parameter, the value of the rest.
        semantics: of the cut entries of A_log, or None.
    """

    tensors: dict[str, Tensor]
    masks: dict[str, Bool[Tensor, "..."]] = field(default_factory=dict)
    fills: dict[str, float] = field(default_factory=dict)
    semantics: str | None = None


def block_name(layer: str) -> str:
    """Return the dotted name of the block that owns a mixer."""
    return layer.removesuffix(f".{_MIXER}")


def layer_in(block: Any, name: str) -> SelectiveLayer:
    """Return the selective layer inside a block.

    Args:
        block: the block.
        name: dotted name of its mixer in the model.

    Returns:
        The layer.
    """
    return SelectiveLayer(name, block.mixer)


def mixer_input(block: Any, hidden: Float[Tensor, "b l m"]) -> Float[Tensor, "b l m"]:
    """Return what a block hands to its mixer."""
    normed: Tensor = block.norm(hidden.to(block.norm.weight.dtype))
    return normed


def with_residual(
    block: Any, hidden: Float[Tensor, "b l m"], mixed: Float[Tensor, "b l m"]
) -> Float[Tensor, "b l m"]:
    """Return a block's output.

    Args:
        block: the block.
        hidden: what it was given.
        mixed: what its mixer made of that.

    Returns:
        What it hands on.
    """
    residual = hidden.float() if block.residual_in_fp32 else hidden
    return residual + mixed


def state_of(block: nn.Module) -> BlockState:
    """Return a block's weights, masks and semantics, on the CPU."""
    found = {name: (mask.cpu(), fill) for name, mask, fill in masks_of(block)}
    return BlockState(
        tensors={
            name: value.detach().cpu().contiguous() for name, value in block.state_dict().items()
        },
        masks={name: mask for name, (mask, _) in found.items()},
        fills={name: fill for name, (_, fill) in found.items()},
        semantics=layer_in(block, "").semantics,
    )


@torch.no_grad()
def restore_(block: Any, state: BlockState) -> None:
    """Make a block what another one was, sizes included.

    Args:
        block: changed in place; its parameters have the same names.
        state: from `state_of`; tensors the block lacks become buffers of it.
    """
    for name, _, _ in list(masks_of(block)):
        owner, _, parameter = name.rpartition(".")
        remove_mask_(block.get_submodule(owner), parameter)
    for name, value in state.tensors.items():
        owner, _, parameter = name.rpartition(".")
        module = block.get_submodule(owner)
        old = module._parameters.get(parameter)
        if old is None:
            # What recovery adds (an offset) is a buffer the block did not have before.
            module.register_buffer(parameter, value.to(block.norm.weight.device))
            continue
        device = value.device if old.device.type == "meta" else old.device
        placed = nn.Parameter(value.to(device), requires_grad=old.requires_grad)
        setattr(module, parameter, placed)
    resize_(block.mixer)
    apply_masks_(block, {name: (mask, state.fills[name]) for name, mask in state.masks.items()})
    if state.semantics is not None:
        layer_in(block, "").name_semantics_(state.semantics)
