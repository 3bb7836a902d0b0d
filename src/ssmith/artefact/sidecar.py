"""What stands beside the weights of every saved model: what was cut, masked, shared and added."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor, nn

from ssmith.artefact.weights import packed, read_tensors
from ssmith.core.errors import ArtefactError, InputError, SsmithError
from ssmith.core.files import read_json, sha256_file, write_bytes, write_json
from ssmith.core.receipt import versions
from ssmith.core.settings import from_mapping, to_mapping
from ssmith.core.unit import Coupling, Renorm
from ssmith.families import LTILayer, Site, sites
from ssmith.families.chain import KEPT
from ssmith.families.coupling import norm_shares
from ssmith.families.mamba.selective import SEMANTICS
from ssmith.families.masks import masks_of
from ssmith.families.parts.hooks import ENGINE_ONLY

SIDECAR = "ssmith.json"
BESIDE = "ssmith.safetensors"
FORMAT = "ssmith-cuts"
FORMAT_VERSION = 2
ADDED_NAMES = ENGINE_ONLY | {"state_mask"}
"""Buffers of a layer that the network it was built in does not have."""
_MASK, _ADDED = "mask/", "added/"


@dataclass(frozen=True, kw_only=True)
class SiteFacts:
    """What one layer that can be cut is.

    Args:
        family: that owns it.
        sizes: how many there are of each unit that can be removed; a list where the parts of the
            layer hold unequal numbers.
        semantics: what its cut entries do; None if none was cut.
    """

    family: str
    sizes: dict[str, int | list[int]] = field(default_factory=dict)
    semantics: str | None = None


@dataclass(frozen=True, kw_only=True)
class MaskFacts:
    """A masked parameter: its shape, and the value of what is cut in it."""

    shape: tuple[int, ...]
    fill: float


@dataclass(frozen=True, kw_only=True)
class NormFacts:
    """A norm that a mask rescaled: which share of its places speaks, and its epsilon."""

    share: str
    epsilon: float

    def __post_init__(self) -> None:
        try:
            fits = 0 < Fraction(self.share) <= 1
        except (ValueError, ZeroDivisionError):
            fits = False
        if not fits:
            raise InputError(f"share is {self.share!r}", allowed="a fraction such as 3/4")


@dataclass(frozen=True, kw_only=True)
class Sidecar:
    """What lies beside a model's weights.

    Args:
        model: class of the network, for people; nothing is imported by this name.
        sites: every layer that can be cut, by its dotted name.
        blocks: for each list that blocks were dropped from, which of the first ones are left.
        masked: every parameter that has a mask.
        norms: norms that masks rescaled.
        shared: further names of tensors that have several.
        pairs: complex tensors that are stored as pairs of numbers.
        plain: whether ``config.json`` alone makes the network that the weights fit.
        portable: where the model can be opened, in words that begin with yes or no.
        parameters: how many numbers are learned.
        digest: SHA-256 over all tensors (see `model_digest`).
        parent: digest of the model this one was made from, or None.
        masks: by parameter, True = free; the rest stays at its fill.
        added: buffers that the network does not have when it is built (see `ADDED_NAMES`).
    """

    model: str
    sites: dict[str, SiteFacts]
    blocks: dict[str, list[int]] = field(default_factory=dict)
    masked: dict[str, MaskFacts] = field(default_factory=dict)
    norms: dict[str, NormFacts] = field(default_factory=dict)
    shared: dict[str, str] = field(default_factory=dict)
    pairs: tuple[str, ...] = ()
    plain: bool
    portable: str
    parameters: int
    digest: str
    parent: str | None
    masks: Mapping[str, Tensor] = field(default_factory=dict)
    added: Mapping[str, Tensor] = field(default_factory=dict)

    def write(self, directory: Path) -> None:
        """Write the files into a directory that is being made."""
        beside = {_MASK + name: pack_bits(self.masks[name]) for name in self.masked}
        beside |= {_ADDED + name: value for name, value in self.added.items()}
        if beside:
            write_bytes(directory / BESIDE, packed(beside))
        facts = to_mapping(replace(self, masks={}, added={}))
        content = {name: facts[name] for name in facts.keys() - {"masks", "added"}}
        named = sha256_file(directory / BESIDE) if beside else None
        write_json(
            directory / SIDECAR,
            content | {"format": FORMAT, "version": FORMAT_VERSION, "beside_sha256": named,
                       "versions": versions()},
        )  # fmt: skip

    @classmethod
    def read(cls, directory: Path) -> Sidecar:
        """Read the files."""
        path = directory / SIDECAR
        content = read_json(path)
        if not isinstance(content, dict):
            raise ArtefactError(f"{path} is a {type(content).__name__}", allowed="a mapping")
        version = content.pop("format", None), content.pop("version", None)
        if version != (FORMAT, FORMAT_VERSION):
            raise ArtefactError(
                f"{path} is of format {version[0]!r}, version {version[1]!r}",
                allowed=f"{FORMAT!r}, version {FORMAT_VERSION}",
                next_step="open it with the version of ssmith that wrote it",
            )
        content.pop("versions", None)
        beside = _read_beside(directory, content.pop("beside_sha256", None))
        added = {
            name.removeprefix(_ADDED): value
            for name, value in beside.items()
            if name.startswith(_ADDED)
        }
        try:
            facts = from_mapping(
                cls, content, where=str(path), decided={"masks": {}, "added": added}
            )
            masks = {
                name: unpack_bits(beside[_MASK + name], mask.shape)
                for name, mask in facts.masked.items()
            }
        except (InputError, KeyError, ValueError) as error:
            what = error.what if isinstance(error, SsmithError) else f"{path} lacks mask {error}"
            raise ArtefactError(what, next_step="restore the directory from its source") from error
        return replace(facts, masks=masks)


def sites_in(model: nn.Module, prefix: str = "") -> dict[str, SiteFacts]:
    """Return what every layer that can be cut is."""
    return {
        f"{prefix}{name}".rstrip("."): SiteFacts(
            family=site.family.name,
            sizes=sizes_of(site),
            semantics=getattr(site.module, SEMANTICS, None),
        )
        for name, site in sites(model).items()
    }


def blocks_in(model: nn.Module) -> dict[str, list[int]]:
    """Return for each list that blocks were dropped from, which of the first ones are left."""
    return {
        name: list(getattr(part, KEPT))
        for name, part in model.named_modules()
        if hasattr(part, KEPT)
    }


def norms_in(model: nn.Module) -> dict[str, NormFacts]:
    """Return every norm that a mask rescaled, by its dotted name."""
    shares = dict(norm_shares(model))
    return {
        name: NormFacts(share=str(shares[name]), epsilon=float(getattr(norm, renorm.epsilon)))
        for name, norm, renorm in norms_over_units(model)
        if name in shares
    }


def norms_over_units(model: nn.Module) -> Iterator[tuple[str, Any, Renorm]]:
    """Yield each norm that averages over units: dotted name, module, what its parts are called."""
    done = set()
    for name, site in sites(model).items():
        for renorm in (renorm for coupling in site.couplings for renorm in coupling.renorms):
            full = f"{name}.{renorm.norm}".lstrip(".")
            if full not in done:
                done.add(full)
                yield full, site.module.get_submodule(renorm.norm), renorm


def masks_in(model: nn.Module) -> tuple[dict[str, MaskFacts], dict[str, Tensor]]:
    """Return every parameter that has a mask, and the masks."""
    masks, facts = {}, {}
    for name, mask, fill in masks_of(model):
        masks[name] = mask.cpu()
        facts[name] = MaskFacts(shape=tuple(mask.shape), fill=float(fill))
    return facts, masks


def key_of(coupling: Coupling) -> str:
    """Return what the sizes of a unit are called: its name, and its place if it has several."""
    return f"{coupling.unit} {coupling.target}".rstrip()


def sizes_of(site: Site) -> dict[str, int | list[int]]:
    """Return how many units of each kind a layer holds, where they can be removed."""
    sizes: dict[str, int | list[int]] = {}
    for coupling in site.couplings:
        if "shrink" in coupling.modes:
            counts = parts_of(site, coupling)
            sizes[key_of(coupling)] = counts if len(set(counts)) > 1 else sum(counts)
    return sizes


def parts_of(site: Site, coupling: Coupling) -> list[int]:
    """Return how many units each part of a layer holds."""
    if isinstance(site.module, LTILayer):
        return site.module.counts()
    return [coupling.count // coupling.per_block] * coupling.per_block


def pack_bits(mask: Bool[Tensor, "..."]) -> Tensor:
    """Return a mask as bits."""
    return torch.from_numpy(np.packbits(mask.numpy().reshape(-1)))


def unpack_bits(bits: Tensor, shape: tuple[int, ...]) -> Bool[Tensor, "..."]:
    """Return the mask that was packed; raises `ValueError` if it is not of that shape."""
    count = int(np.prod(shape, dtype=np.int64))
    if bits.dtype != torch.uint8 or bits.numel() != -(-count // 8):
        raise ValueError(f"of shape {shape}: {bits.numel()} bytes")
    flat = np.unpackbits(bits.numpy(), count=count)
    return torch.from_numpy(flat.astype(bool)).reshape(shape)


def _read_beside(directory: Path, named: Any) -> dict[str, Tensor]:
    path = directory / BESIDE
    if named is None:
        return {}
    if not (path.is_file() and sha256_file(path) == named):
        raise ArtefactError(
            f"{path} is missing or not the one {SIDECAR} names",
            next_step="restore the directory from its source",
        )
    return read_tensors(path)
