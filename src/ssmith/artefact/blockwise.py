"""Models larger than memory: blocks read one by one, and written back shard by shard."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int64
from safetensors import safe_open
from torch import Tensor, nn

from ssmith.artefact import hugging_face
from ssmith.artefact.card import LANGUAGE, card
from ssmith.artefact.layout import CARD, INDEX, seal
from ssmith.artefact.portable import by_trial
from ssmith.artefact.sidecar import (
    ADDED_NAMES,
    SIDECAR,
    MaskFacts,
    Sidecar,
    sites_in,
)
from ssmith.artefact.weights import files_of, packed, shapes_in
from ssmith.core.errors import ArtefactError, UnsupportedError
from ssmith.core.files import write_bytes, write_json, write_text
from ssmith.core.optional import require
from ssmith.families import stock_configs, sync_config_
from ssmith.families.hf.native import skeleton
from ssmith.families.registry import find_selective, tensors_digest
from ssmith.families.state import SiteState, restore_

_EMBEDDING = "backbone.embeddings.weight"
_HEAD = "lm_head.weight"
_NAMES = {_EMBEDDING: "backbone.embedding.weight"}


@dataclass(frozen=True)
class DirectoryBlocks:
    """The blocks of a model that stays on disk.

    Args:
        directory: of a Hugging Face model of type mamba or falcon_mamba, or a mamba_ssm
            checkpoint.
        content: its configuration.
    """

    directory: Path
    content: dict[str, Any]

    @cached_property
    def skeleton(self) -> Any:
        """The model without weights: every tensor has a shape and no memory."""
        transformers = require("transformers", extra="hf", purpose="a selective model")
        with torch.device("meta"), hugging_face.quiet(transformers):
            if "model_type" not in self.content:
                return skeleton(self.content)
            settings = transformers.AutoConfig.from_pretrained(
                self.directory, local_files_only=True, trust_remote_code=False
            )
            return transformers.AutoModelForCausalLM.from_config(settings)

    @cached_property
    def layers(self) -> tuple[str, ...]:
        """Dotted names of the mixers, in the order they run."""
        return tuple(find_selective(self.skeleton))

    @property
    def lasting(self) -> bool:
        """False: what a block becomes is for the walk to keep."""
        return False

    @cached_property
    def sidecar(self) -> Sidecar | None:
        """What earlier cuts mean, if there were any."""
        return Sidecar.read(self.directory) if (self.directory / SIDECAR).is_file() else None

    @cached_property
    def places(self) -> dict[str, Path]:
        """The file of every tensor, by its name in transformers."""
        found: dict[str, Path] = {}
        for path in files_of(self.directory):
            found |= dict.fromkeys(shapes_in(path), path)
        return found

    def check(self) -> None:
        """Raise unless every tensor of the model is there, with its shape.

        Raises:
            ArtefactError: if one is not.
            UnsupportedError: if layers hold unequal numbers of states, or offsets.
        """
        if self.sidecar is not None and (self.sidecar.added or not self.sidecar.plain):
            raise UnsupportedError(
                f"{self.directory}: its layers hold unequal numbers of states or offsets, and "
                "blocks are read one by one only where they are alike",
                next_step="prune it in memory",
            )
        for name, wanted in self.skeleton.state_dict().items():
            if name == _HEAD and self._name(name) not in self.places:
                continue
            shape = self._shape(name)
            if shape != tuple(wanted.shape):
                raise ArtefactError(
                    f"{self.directory}: {name} is {shape}, not {tuple(wanted.shape)}",
                    next_step="the files do not belong together; restore them from their source",
                )

    def tensor(self, name: str) -> Tensor:
        """Read one tensor by its name in transformers; a tied head is the embedding."""
        stored = self._name(name)
        if stored not in self.places and name == _HEAD:
            stored = self._name(_EMBEDDING)
        with safe_open(self.places[stored], framework="pt") as file:
            found: Tensor = file.get_tensor(stored)
        return found

    def embed(self, ids: Int64[Tensor, "b l"]) -> Float[Tensor, "b l m"]:
        """Return what the first block is given."""
        return self.tensor(_EMBEDDING)[ids]

    @contextmanager
    def block(self, index: int) -> Iterator[nn.Module]:
        """Read a block, and let go of it afterwards."""
        layer = self.layers[index]
        block = copy.deepcopy(self.skeleton.get_submodule(block_of(layer)))
        inside = layer.removeprefix(block_of(layer) + ".")
        for name, _ in list(block.named_parameters()):
            owner, _, parameter = name.rpartition(".")
            if not name.startswith(inside + "."):
                value = self.tensor(f"{block_of(layer)}.{name}")
                setattr(block.get_submodule(owner), parameter, nn.Parameter(value))
        restore_(block.get_submodule(inside), self.state(layer))
        yield block.eval()

    def state(self, layer: str) -> SiteState:
        """Read everything a mixer is."""
        place = layer + "."
        names = [name for name in self.skeleton.state_dict() if name.startswith(place)]
        tensors = {name.removeprefix(place): self.tensor(name) for name in names}
        if self.sidecar is None:
            return SiteState(tensors=tensors)
        masks = {
            name.removeprefix(place): mask
            for name, mask in self.sidecar.masks.items()
            if name.startswith(place)
        }
        fills = {name: self.sidecar.masked[place + name].fill for name in masks}
        facts = self.sidecar.sites.get(layer)
        return SiteState(
            tensors=tensors, masks=masks, fills=fills,
            semantics=None if facts is None else facts.semantics,
        )  # fmt: skip

    def digest(self, offsets: Mapping[str, Tensor] | None = None) -> str:
        """Return the digest `model_digest` would return for the loaded model.

        Args:
            offsets: tensors of the model that stand beside its weights.

        Returns:
            The digest.
        """
        added = offsets or {}
        names = sorted([*self.skeleton.state_dict(), *added])
        return tensors_digest(
            (name, added[name] if name in added else self.tensor(name)) for name in names
        )

    def block_bytes(self) -> int:
        """Return the bytes of the first block's weights."""
        place = block_of(self.layers[0]) + "."
        names = [name for name in self.skeleton.state_dict() if name.startswith(place)]
        return sum(value.numel() * value.element_size() for value in map(self.tensor, names))

    def model_bytes(self) -> int:
        """Return the bytes of all weights as they are stored."""
        return sum(path.stat().st_size for path in set(self.places.values()))

    def _name(self, name: str) -> str:
        """Return the name a tensor has in the files."""
        other = _NAMES.get(name)
        return other if other is not None and name not in self.places else name

    def _shape(self, name: str) -> tuple[int, ...]:
        stored = self._name(name)
        if stored not in self.places:
            raise ArtefactError(
                f"{self.directory}: the weights lack {name}", next_step="restore them"
            )
        with safe_open(self.places[stored], framework="pt") as file:
            return tuple(file.get_slice(stored).get_shape())


def block_of(layer: str) -> str:
    """Return the dotted name of the block that owns a mixer."""
    return layer.rpartition(".")[0]


@dataclass(frozen=True)
class _BlockMasks(Mapping[str, Tensor]):
    """The masks of all mixers, each read when it is asked for."""

    names: dict[str, tuple[str, str]]
    states: Mapping[str, SiteState]

    def __getitem__(self, name: str) -> Tensor:
        layer, inner = self.names[name]
        return self.states[layer].masks[inner]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True, kw_only=True)
class Assembly:
    """A pruned model whose mixers lie in a working directory.

    Args:
        blocks: the model before.
        states: what became of each mixer.
        parent: digest of the model before.
    """

    blocks: DirectoryBlocks
    states: Mapping[str, SiteState]
    parent: str

    def write(
        self, scratch: Path, *, facts: Mapping[str, Any], files: Mapping[str, str | bytes]
    ) -> str:
        """Write the model into a directory that is being made, one shard per block.

        Args:
            scratch: the directory.
            facts: for the card.
            files: further files by name.

        Returns:
            The digest of the pruned model.
        """
        after = copy.deepcopy(self.blocks.skeleton)
        added = self._written(scratch, after)
        sync_config_(after, stock_configs(self.blocks.skeleton))
        after.config.save_pretrained(scratch)
        hugging_face.settle_config(scratch)
        content = self.blocks.content | {"model_type": after.config.model_type}
        names = {
            f"{layer}.{name}": (layer, name)
            for layer, state in self.states.items()
            for name in state.masks
        }
        sites = sites_in(after)
        plain, sentence = by_trial(after, sites, added)
        sidecar = Sidecar(
            model=f"{type(after).__module__}.{type(after).__qualname__}",
            sites=sites,
            masked={name: self._mask_facts(*place) for name, place in names.items()},
            shared=self._shared(),
            plain=plain,
            portable=sentence,
            parameters=sum(item.numel() for item in after.parameters()),
            digest=DirectoryBlocks(scratch, content).digest(added),
            parent=self.parent,
            masks=_BlockMasks(names, self.states),
            added=added,
        )
        sidecar.write(scratch)
        hugging_face.copy_tokenizer(self.blocks.directory, scratch)
        write_text(scratch / CARD, card(sidecar, facts, hub=LANGUAGE))
        seal(scratch, files)
        return sidecar.digest

    def _written(self, scratch: Path, after: nn.Module) -> dict[str, Tensor]:
        """Write the shards, and give a model without memory the sizes of what is in them.

        Args:
            scratch: the directory.
            after: the model before, on the meta device; changed in place.

        Returns:
            What blocks hold beside stock tensors.
        """
        total, shards = 0, len(self.blocks.layers) + 1
        places: dict[str, str] = {}
        added: dict[str, Tensor] = {}
        for number in range(shards):
            file = f"model-{number + 1:05}-of-{shards:05}.safetensors"
            layer = "" if number == 0 else self.blocks.layers[number - 1]
            tensors = self._inside(layer, after, added) if layer else self._outside()
            write_bytes(scratch / file, packed(tensors, {"format": "pt"}))
            places |= dict.fromkeys(tensors, file)
            total += sum(value.numel() * value.element_size() for value in tensors.values())
        write_json(scratch / INDEX, {"metadata": {"total_size": total}, "weight_map": places})
        return added

    def _inside(self, layer: str, after: nn.Module, added: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the stock tensors of a block, and resize it in a model without memory."""
        state = self.states[layer]
        sizes = {name: value.to("meta") for name, value in state.tensors.items()}
        restore_(after.get_submodule(layer), replace(state, tensors=sizes, masks={}, fills={}))
        tensors = {
            name: self.blocks.tensor(name)
            for name in self.blocks.skeleton.state_dict()
            if name.startswith(block_of(layer) + ".") and not name.startswith(layer + ".")
        }
        tensors |= {f"{layer}.{name}": value for name, value in state.tensors.items()}
        for name in [name for name in tensors if name.rpartition(".")[2] in ADDED_NAMES]:
            added[name] = tensors.pop(name)
        return tensors

    def _mask_facts(self, layer: str, name: str) -> MaskFacts:
        state = self.states[layer]
        return MaskFacts(shape=tuple(state.masks[name].shape), fill=float(state.fills[name]))

    def _shared(self) -> dict[str, str]:
        tied = getattr(self.blocks.skeleton.config, "tie_word_embeddings", True)
        there = _HEAD in self.blocks.skeleton.state_dict()
        return {_HEAD: _EMBEDDING} if tied and there else {}

    def _outside(self) -> dict[str, Tensor]:
        """Return the tensors of no block; a tied head is not stored twice."""
        inside = tuple(block_of(layer) + "." for layer in self.blocks.layers)
        return {
            name: self.blocks.tensor(name)
            for name in self.blocks.skeleton.state_dict()
            if not name.startswith(inside) and name not in self._shared()
        }
