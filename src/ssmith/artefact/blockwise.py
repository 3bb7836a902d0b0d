"""Models larger than memory: opened without their weights, which are read part by part."""

from __future__ import annotations

import copy
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from ssmith.artefact import hugging_face
from ssmith.artefact.restore import finish_
from ssmith.artefact.sidecar import SIDECAR, Sidecar
from ssmith.artefact.weights import check_finite, check_same, files_of, shapes_in
from ssmith.core.errors import ArtefactError, UnsupportedError
from ssmith.core.optional import require
from ssmith.families.absent import give_source_, parts_of, source_of
from ssmith.families.hf.native import skeleton as native_skeleton

_EMBEDDING = ("backbone.embedding.weight", "backbone.embeddings.weight")
"""What mamba_ssm calls it, and transformers."""


def open_absent(directory: Path, content: dict[str, Any]) -> Any:
    """Open a language model without its weights, which stay on disk: shapes without memory.

    What there is to refuse is refused by its source's ``check``.
    """
    sidecar = Sidecar.read(directory) if (directory / SIDECAR).is_file() else None
    alike = sidecar is None or (sidecar.plain and not sidecar.added)
    transformers = require("transformers", extra="hf", purpose="a language model")
    places = {name: path for path in files_of(directory) for name in shapes_in(path)}
    with hugging_face.quiet(transformers):
        if "model_type" in content:
            hugging_face.check_sizes(directory, content)
            model, conversions = _stock(transformers, directory, places)
        else:
            model, conversions = _native(content, directory, places), []
        stored = _Stored(
            directory=directory, places=places, shell=copy.deepcopy(model),
            conversions=conversions, alike=alike,
        )  # fmt: skip
        model._weight_conversions = stored.conversions_used()
    give_source_(model.eval(), stored.read, stored.check)
    if sidecar is not None and alike:
        _give_masks_(model, sidecar, directory)
    return model


def bytes_of(directory: Path, model: nn.Module) -> tuple[int, int]:
    """Return the bytes of all weights as they are stored, and those of the largest part."""
    every = [model.get_submodule(name) for part in parts_of(model) for name in part]
    largest = max(
        sum(value.numel() * value.element_size() for value in part.state_dict().values())
        for part in every
    )
    return sum(path.stat().st_size for path in files_of(directory)), largest


def _stock(transformers: Any, directory: Path, places: Mapping[str, Path]) -> tuple[Any, list[Any]]:
    """Build a model of transformers as `from_pretrained` does, but for its weights."""
    config = hugging_face.config_of(transformers, directory)
    dtype = getattr(config, "dtype", None)
    if dtype is None:
        dtype = _first_dtype(places)
    dtype = getattr(torch, dtype) if isinstance(dtype, str) else dtype
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=dtype)
    for pattern, kept in model._get_dtype_plan(dtype).items():
        for name, value in model.state_dict(keep_vars=True).items():
            if re.search(pattern, name):
                value.data = value.data.to(kept)
    for name, value in list(model.named_non_persistent_buffers()):
        owner, _, last = name.rpartition(".")
        model.get_submodule(owner)._buffers[last] = torch.empty_like(value, device="cpu")
    # What is no weight is computed as transformers does; parameters have no memory to be written.
    model.initialize_weights()
    with suppress(OSError):
        model.generation_config = transformers.GenerationConfig.from_pretrained(
            directory, local_files_only=True
        )
    return model, _inner("conversion_mapping").get_model_conversion_mapping(model)


def _inner(name: str) -> Any:
    """Return a room of transformers that turns stored tensors into a model's, and back."""
    return require(f"transformers.{name}", extra="hf", purpose="a language model")


def _native(content: dict[str, Any], directory: Path, places: Mapping[str, Path]) -> Any:
    with torch.device("meta"):
        model: Any = native_skeleton(content)
    model.config.name_or_path = str(directory)
    return model.to(_first_dtype(places))


def _first_dtype(places: Mapping[str, Path]) -> torch.dtype:
    name, path = next(iter(places.items()))
    with safe_open(path, framework="pt") as file:
        found: torch.dtype = file.get_slice(name)[:0].dtype
    return found


def _give_masks_(model: nn.Module, sidecar: Sidecar, directory: Path) -> None:
    """Give a model the masks of earlier cuts, and its parts when they are read."""

    def masked_(name: str, part: nn.Module) -> None:
        finish_(part, _inside(sidecar, f"{name}."), directory)

    finish_(model, sidecar, directory)
    source = source_of(model)
    assert source is not None
    source.changed_by(masked_)


def _inside(sidecar: Sidecar, place: str) -> Sidecar:
    """Return what a sidecar says of one part, by names as seen from it."""

    def own(given: Mapping[str, Any]) -> dict[str, Any]:
        return {
            name.removeprefix(place): value
            for name, value in given.items()
            if name.startswith(place)
        }

    return replace(
        sidecar,
        sites=own(sidecar.sites), masked=own(sidecar.masked), masks=own(sidecar.masks),
    )  # fmt: skip


@dataclass
class _Stored:
    """Tensors on disk by their names in a model.

    ``places`` are the files by stored name; ``shell`` is a model without memory that what is read
    passes through; ``conversions`` are transformers' own, from stored names to those of the model;
    ``alike`` says whether the configuration knows all sizes and tensors.
    """

    directory: Path
    places: Mapping[str, Path]
    shell: Any
    conversions: list[Any]
    alike: bool
    keys: dict[str, list[str]] = field(default_factory=dict)
    first: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Find out which stored tensors each tensor of the model is made of."""
        loading = _inner("core_model_loading")
        renamings = [x for x in self.conversions if isinstance(x, loading.WeightRenaming)]
        converters = [x for x in self.conversions if isinstance(x, loading.WeightConverter)]
        there = self.shell.state_dict()
        for key in self.places:
            name = loading.rename_source_key(
                self._named(key), renamings, converters, self.shell.base_model_prefix, there
            )[0]
            self.keys.setdefault(name if name in there else key, []).append(key)
        # A tensor with several names is stored under one of them.
        state = self.shell.state_dict(keep_vars=True)
        names: dict[int, str] = {}
        for name in sorted(state, key=lambda name: name not in self.keys):
            names.setdefault(id(state[name]), name)
        self.first = {name: names[id(value)] for name, value in state.items()}

    def conversions_used(self) -> list[Any]:
        """Return the conversions that stored names needed: a model is saved through the same."""
        return [item for item in self.conversions if item.was_used()]

    def check(self) -> None:
        """Raise unless the model's tensors are stored, each with its shape, and no others."""
        if not self.alike:
            raise UnsupportedError(
                f"{self.directory}: its layers hold unequal numbers of units or offsets, and "
                "blocks are read one by one only where they are alike",
                next_step="prune it in memory",
            )
        ignored = self.shell._keys_to_ignore_on_load_unexpected or ()
        there = self.shell.state_dict()
        given, wanted = {}, {}
        for name, value in there.items():
            own = self.keys.get(self.first[name])
            if own is None:
                wanted[name] = tuple(value.shape)
            elif own == [name]:
                wanted[name] = tuple(value.shape)
                given[name] = shapes_in(self.places[name])[name]
        for name in self.keys:
            if name not in there and not any(re.search(item, name) for item in ignored):
                given[name] = ()
        check_same(given, wanted, self.directory)

    def read(self, names: Collection[str]) -> dict[str, Tensor]:
        """Read tensors of the model."""
        firsts = {name: self.first[name] for name in names}
        transformers = require("transformers", extra="hf", purpose="a language model")
        with ExitStack() as stack:
            files: dict[Path, Any] = {}
            slices = {}
            for first in dict.fromkeys(firsts.values()):
                for key in self.keys[first]:
                    path = self.places[key]
                    if path not in files:
                        files[path] = stack.enter_context(safe_open(path, framework="pt"))
                    slices[self._named(key)] = files[path].get_slice(key)
            stack.enter_context(hugging_face.quiet(transformers))
            stack.enter_context(self._emptied_after(firsts.values()))
            settings = _inner("modeling_utils").LoadStateDictConfig(
                dtype=self.shell.dtype, weight_mapping=copy.deepcopy(self.conversions)
            )
            load = _inner("core_model_loading").convert_and_load_state_dict_in_model
            report, _ = load(self.shell, slices, settings)
            wrong = [*report.mismatched_keys, *report.conversion_errors]
            if wrong:
                raise ArtefactError(
                    f"{self.directory}: {wrong[0]} does not fit its configuration",
                    next_step="the files do not belong together; restore them from their source",
                )
            # A copy lies as torch lays out its own memory, on which products depend bit for bit.
            found = {
                first: self.shell.get_parameter_or_buffer(first).detach().clone()
                for first in dict.fromkeys(firsts.values())
            }
        check_finite(found, self.directory)
        return {name: found[first] for name, first in firsts.items()}

    @contextmanager
    def _emptied_after(self, names: Collection[str]) -> Iterator[None]:
        """Give the shell its tensors without memory back after the block."""
        before = {}
        for name in names:
            path, _, last = name.rpartition(".")
            owner = self.shell.get_submodule(path)
            kind = owner._parameters if last in owner._parameters else owner._buffers
            before[name] = (kind, last, kind[last])
        try:
            yield
        finally:
            for kind, last, value in before.values():
                kind[last] = value

    def _named(self, key: str) -> str:
        """Return a stored name as transformers has it."""
        return _EMBEDDING[1] if key == _EMBEDDING[0] and not self.conversions else key
