"""What stands beside a pruned Hugging Face model: what its cuts mean, and its masks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn

from ssmith.core.errors import ArtefactError, SsmithError
from ssmith.core.files import read_json, sha256_file, write_bytes, write_json
from ssmith.core.receipt import versions
from ssmith.core.selective import STORED_A_LOG, check_semantics
from ssmith.families.hf.engine import accelerate_
from ssmith.families.mamba.selective import SelectiveLayer
from ssmith.families.masks import masks_of
from ssmith.families.parts.hooks import OFFSET_NAMES
from ssmith.families.registry import apply_masks_

SIDECAR = "ssmith.json"
MASKS = "masks.safetensors"
OFFSETS = "offsets.safetensors"
FORMAT = "ssmith-selective"
FORMAT_VERSION = 1
_KEYS = {
    "format", "version", "semantics", "state_sizes", "opens_elsewhere", "fills", "masks_sha256",
    "offsets_sha256", "digest", "parent", "versions",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Sidecar:
    """What a model's cuts mean.

    Args:
        semantics: of the cut entries of A_log; None if none was cut.
        state_sizes: states per channel of every layer that has any, by its mixer's name.
        masks: per masked parameter, True = free; the rest is held at its fill.
        fills: per masked parameter, the value of the rest.
        offsets: what is added in read-outs, by the buffer's name.
        digest: SHA-256 over the weights.
        parent: digest of the model this one was made from, or None.
    """

    semantics: str | None
    state_sizes: dict[str, int]
    masks: Mapping[str, Bool[Tensor, "..."]] = field(default_factory=dict)
    fills: dict[str, float] = field(default_factory=dict)
    offsets: Mapping[str, Tensor] = field(default_factory=dict)
    digest: str
    parent: str | None

    @property
    def opens_elsewhere(self) -> bool:
        """Whether stock transformers gives the same logits: equal sizes, and nothing added."""
        return self.equal_sizes and not self.offsets

    @property
    def equal_sizes(self) -> bool:
        """Whether all layers have as many states."""
        return len(set(self.state_sizes.values())) <= 1

    @classmethod
    def of(cls, model: nn.Module, digest: str, parent: str | None) -> Sidecar:
        """Describe a model in memory.

        Args:
            model: a Hugging Face model.
            digest: over its weights.
            parent: digest of the model it was made from.

        Returns:
            The sidecar.
        """
        layers = [
            SelectiveLayer(name, part)
            for name, part in model.named_modules()
            if hasattr(part, "A_log") and hasattr(part, "x_proj")
        ]
        found = {name: (mask.cpu(), fill) for name, mask, fill in masks_of(model)}
        named = {layer.semantics for layer in layers} - {None}
        return cls(
            semantics=named.pop() if named else None,
            state_sizes={layer.name: layer.n for layer in layers},
            masks={name: mask for name, (mask, _) in found.items()},
            fills={name: fill for name, (_, fill) in found.items()},
            offsets={
                name: value.detach().cpu()
                for name, value in model.state_dict().items()
                if is_offset(name)
            },
            digest=digest,
            parent=parent,
        )

    def write(self, directory: Path) -> None:
        """Write the files into a directory that is being made."""
        write_bytes(directory / MASKS, _packed(self.masks))
        if self.offsets:
            write_bytes(directory / OFFSETS, to_safetensors(dict(self.offsets)))
        write_json(
            directory / SIDECAR,
            {
                "format": FORMAT,
                "version": FORMAT_VERSION,
                "semantics": self.semantics,
                "state_sizes": self.state_sizes,
                "opens_elsewhere": self.opens_elsewhere,
                "fills": self.fills,
                "masks_sha256": sha256_file(directory / MASKS),
                "offsets_sha256": sha256_file(directory / OFFSETS) if self.offsets else None,
                "digest": self.digest,
                "parent": self.parent,
                "versions": versions(),
            },
        )

    @classmethod
    def read(cls, directory: Path) -> Sidecar:
        """Read the files.

        Args:
            directory: of the model.

        Returns:
            What they say.

        Raises:
            ArtefactError: if one is missing, malformed, of another version, or not the other's.
        """
        content = read_json(directory / SIDECAR)
        path = directory / SIDECAR
        if not isinstance(content, dict) or set(content) | {"offsets_sha256"} != _KEYS:
            raise ArtefactError(f"{path} is malformed", allowed=f"exactly {sorted(_KEYS)}")
        if (content["format"], content["version"]) != (FORMAT, FORMAT_VERSION):
            raise ArtefactError(
                f"{path} is of format {content['format']!r}, version {content['version']!r}",
                allowed=f"{FORMAT!r}, version {FORMAT_VERSION}",
            )
        if content["semantics"] is not None:
            try:
                check_semantics(content["semantics"])
            except SsmithError as error:
                raise ArtefactError(f"{path}: {error.what}", allowed=error.allowed) from error
        for name, digest in ((MASKS, "masks_sha256"), (OFFSETS, "offsets_sha256")):
            file, wanted = directory / name, content.get(digest)
            if wanted is not None and not (file.is_file() and sha256_file(file) == wanted):
                raise ArtefactError(
                    f"{file} is missing or not the one {SIDECAR} names",
                    next_step="restore the directory from its source",
                )
        return cls(
            semantics=content["semantics"],
            state_sizes=content["state_sizes"],
            masks=_unpacked(directory / MASKS),
            fills=content["fills"],
            offsets=load_file(directory / OFFSETS) if content.get("offsets_sha256") else {},
            digest=content["digest"],
            parent=content["parent"],
        )

    def attach_(self, model: nn.Module, directory: Path) -> None:
        """Give a loaded model its masks and semantics; one with offsets runs on the engine then.

        Args:
            model: with the weights that lie beside this sidecar.
            directory: of the model, for errors.

        Raises:
            ArtefactError: if weights and masks disagree: entries that are cut hold another value
                than the semantics store, or a masked parameter is not there.
        """
        self._check_meaning(directory)
        for name, offset in self.offsets.items():
            owner, _, buffer = name.rpartition(".")
            model.get_submodule(owner).register_buffer(buffer, offset)
        if self.offsets:
            # Stock code would leave them out without a word.
            accelerate_(model)
        parameters = dict(model.named_parameters())
        for name, keep in self.masks.items():
            value = parameters.get(name)
            if value is None or value.shape != keep.shape:
                raise ArtefactError(
                    f"{directory}: {MASKS} masks {name}, which the model does not have like that",
                    next_step="restore the directory from its source",
                )
            if bool((value.detach()[~keep] != self.fills[name]).any()):
                raise ArtefactError(
                    f"{directory}: {name} holds other values than {self.fills[name]:g} where "
                    f"{MASKS} says it is cut",
                    next_step="weights and masks are of two models; restore both, or remove "
                    f"{SIDECAR} to open the weights as they are",
                )
            owner, _, parameter = name.rpartition(".")
            if parameter == "A_log" and self.semantics is not None:
                SelectiveLayer(owner, model.get_submodule(owner)).name_semantics_(self.semantics)
        apply_masks_(model, {name: (keep, self.fills[name]) for name, keep in self.masks.items()})

    def _check_meaning(self, directory: Path) -> None:
        """Refuse entries whose stored value is not that of the semantics the sidecar names."""
        for name, fill in self.fills.items():
            if not name.endswith("A_log"):
                continue
            if STORED_A_LOG.get(self.semantics or "") != fill:
                raise ArtefactError(
                    f"{directory}: cut entries of {name} are stored as {fill:g}, which is not "
                    f"what {self.semantics!r} means",
                    allowed=", ".join(f"{key}: {value:g}" for key, value in STORED_A_LOG.items()),
                    next_step="restore the directory from its source",
                )


def is_offset(name: str) -> bool:
    """Return whether a tensor of a model is an offset of a mixer."""
    return name.rpartition(".")[2] in OFFSET_NAMES


def _packed(found: Mapping[str, Bool[Tensor, "..."]]) -> bytes:
    """Return masks as bits, with their shapes beside them."""
    bits, shapes = {}, {}
    for name, mask in found.items():
        bits[name] = torch.from_numpy(np.packbits(mask.numpy().reshape(-1)))
        shapes[name] = list(mask.shape)
    return to_safetensors(bits, {"shapes": json.dumps(shapes, sort_keys=True)})


def _unpacked(path: Path) -> dict[str, Bool[Tensor, "..."]]:
    try:
        with safe_open(path, framework="pt") as file:
            shapes: dict[str, Any] = json.loads(file.metadata()["shapes"])
            bits = {name: file.get_tensor(name) for name in file.offset_keys()}
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise ArtefactError(
            f"{path} is truncated or no masks ({error})", next_step="restore it from its source"
        ) from error
    masks = {}
    for name, shape in shapes.items():
        count = int(np.prod(shape, dtype=np.int64))
        flat = np.unpackbits(bits[name].numpy(), count=count)
        masks[name] = torch.from_numpy(flat.astype(bool)).reshape(shape)
    return masks
