"""Make a freshly built network the one that was saved: sizes, weights, masks, offsets."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ssmith.artefact.sidecar import (
    SIDECAR,
    Sidecar,
    SiteFacts,
    norms_over_units,
    parts_of,
    sizes_of,
)
from ssmith.artefact.weights import check_same, read_weights, shared_names
from ssmith.core.errors import ArtefactError, InputError, SsmithError
from ssmith.core.selective import STORED_A_LOG
from ssmith.families import Site, model_digest, sites
from ssmith.families.chain import BLOCKS
from ssmith.families.coupling import rescale_norm_
from ssmith.families.hf.engine import accelerate_
from ssmith.families.mamba.selective import SEMANTICS
from ssmith.families.parts.hooks import ENGINE_ONLY
from ssmith.families.registry import apply_masks_

Build = Callable[[], nn.Module]
_FROM_SOURCE = "restore the directory from its source"


def network(directory: Path, build: Build | None) -> nn.Module:
    """Build a saved network by its own class, and fill it."""
    sidecar = Sidecar.read(directory)
    if build is None:
        raise InputError(
            f"{directory} holds a {sidecar.model}, which its own class opens",
            allowed="build: a class, or a function without arguments that makes the network",
            next_step=f"load it with build={sidecar.model.rpartition('.')[2]}, or a function that "
            "gives its class the arguments it was made with",
        )
    made = build()
    if not isinstance(made, nn.Module):
        raise InputError(
            f"build made a {type(made).__name__}", allowed="a torch.nn.Module",
            next_step="return the network from build",
        )  # fmt: skip
    cure = (
        f"build makes another network than the {sidecar.model} that was saved: give it the "
        "arguments it was made with, before any cut"
    )
    restore_(made, sidecar, directory, cure=cure)
    return made


def restore_(
    model: nn.Module, sidecar: Sidecar, directory: Path, *, cure: str = _FROM_SOURCE
) -> None:
    """Make a network the one that was saved."""
    tensors = {**read_weights(directory, sidecar.pairs), **sidecar.added}
    _drop_blocks_(model, sidecar, directory, cure)
    _shrink_(model, sidecar, directory, cure)
    _rescale_(model, sidecar, directory)
    add_(model, sidecar)
    tensors |= {name: tensors[of] for name, of in sidecar.shared.items() if of in tensors}
    there = model.state_dict(keep_vars=True)
    check_same(
        {name: tuple(value.shape) for name, value in tensors.items()},
        {name: tuple(value.shape) for name, value in there.items()},
        directory,
        next_step=cure,
    )
    if shared_names(there) != sidecar.shared:
        names = sorted(shared_names(there).items() ^ sidecar.shared.items())[0]
        raise ArtefactError(
            f"{directory}: {names[0]} and {names[1]} are one tensor in one of the two networks, "
            "built and saved, and two in the other",
            next_step="tie the same weights in build",
        )
    for name, value in there.items():
        if value.dtype != tensors[name].dtype:
            value.data = value.data.to(tensors[name].dtype)
    model.load_state_dict(tensors)
    finish_(model, sidecar, directory)
    if model_digest(model) != sidecar.digest:
        raise ArtefactError(
            f"{directory}: the weights are not those that {SIDECAR} names by their digest",
            next_step=_FROM_SOURCE,
        )


def add_(model: nn.Module, sidecar: Sidecar) -> None:
    """Add the buffers that a network does not have when it is built, such as offsets."""
    for name, value in sidecar.added.items():
        owner, _, buffer = name.rpartition(".")
        model.get_submodule(owner).register_buffer(buffer, value.clone())
    if any(name.rpartition(".")[2] in ENGINE_ONLY for name in sidecar.added):
        # Stock code would leave them out without a word.
        accelerate_(model)


def finish_(model: nn.Module, sidecar: Sidecar, directory: Path) -> None:
    """Give a network with its weights the masks and the semantics they come with."""
    there = sites(model)
    for name, facts in sidecar.sites.items():
        if facts.semantics is not None:
            _check_meaning(there[name], facts, sidecar, directory)
            setattr(there[name].module, SEMANTICS, facts.semantics)
    parameters = dict(model.named_parameters(remove_duplicate=False))
    for name, keep in sidecar.masks.items():
        value, fill = parameters.get(name), sidecar.masked[name].fill
        if value is None or value.shape != keep.shape:
            raise ArtefactError(
                f"{directory}: {SIDECAR} masks {name}, which the model does not have like that",
                next_step=_FROM_SOURCE,
            )
        if not value.is_meta and bool((value.detach()[~keep.to(value.device)] != fill).any()):
            raise ArtefactError(
                f"{directory}: {name} holds other values than {fill:g} where a mask says it is cut",
                next_step="weights and masks are of two models; restore both, or remove "
                f"{SIDECAR} to open the weights as they are",
            )
    apply_masks_(model, {name: (mask, sidecar.masked[name].fill)
                         for name, mask in sidecar.masks.items()})  # fmt: skip


def _drop_blocks_(model: nn.Module, sidecar: Sidecar, directory: Path, cure: str) -> None:
    """Drop the blocks that were dropped; a configuration may have left them out already."""
    lists = dict(model.named_modules())
    for name, kept in sidecar.blocks.items():
        blocks: Any = lists.get(name)
        count = len(blocks) if isinstance(blocks, nn.ModuleList | nn.Sequential) else 0
        keep = torch.tensor([index in kept for index in range(count)], dtype=torch.bool)
        if count != len(kept) and int(keep.sum()) != len(kept):
            raise ArtefactError(
                f"{directory}: blocks {kept} of {name} were saved, the built one has {count}",
                next_step=cure,
            )
        if count != len(kept):
            site = Site(name=name, module=blocks, family=BLOCKS)
            site.cut_(site.couplings[0], keep)


def _shrink_(model: nn.Module, sidecar: Sidecar, directory: Path, cure: str) -> None:
    """Remove as many units of each layer as were removed; which ones does not matter here."""
    there = sites(model)
    for name, facts in sidecar.sites.items():
        site = there.get(name)
        if site is None or site.family.name != facts.family:
            raise _no_site(model, name, facts, directory, cure)
        try:
            for unit, wanted in facts.sizes.items():
                _fit_(site, unit, wanted)
        except SsmithError as error:
            raise ArtefactError(
                f"{directory}: {name} cannot be given its size: {error.what}", next_step=cure
            ) from error
        now = sizes_of(site)
        if any(now.get(unit) != size for unit, size in facts.sizes.items()):
            raise ArtefactError(
                f"{directory}: {name} has {now}, {SIDECAR} names {facts.sizes}", next_step=cure
            )


def _rescale_(model: nn.Module, sidecar: Sidecar, directory: Path) -> None:
    """Rescale norms as masks did; their weights are read afterwards, their epsilons stand here."""
    norms = {name: (norm, renorm) for name, norm, renorm in norms_over_units(model)}
    for name, facts in sidecar.norms.items():
        if name not in norms:
            raise ArtefactError(
                f"{directory}: {SIDECAR} rescales {name}, which averages over no unit here",
                next_step=_FROM_SOURCE,
            )
        norm, renorm = norms[name]
        rescale_norm_(norm, renorm, Fraction(facts.share))
        setattr(norm, renorm.epsilon, facts.epsilon)


def _fit_(site: Site, unit: str, wanted: int | list[int]) -> None:
    coupling = site.coupling(*unit.split(" ", 1))
    have = parts_of(site, coupling)
    want = wanted if isinstance(wanted, list) else _spread(wanted, len(have), unit)
    if have == want:
        return
    if len(have) != len(want) or any(more > there for more, there in zip(want, have, strict=True)):
        raise InputError(f"{unit}: {wanted} were saved, the built one has {sum(have)}")
    stays = [torch.arange(there) < left for there, left in zip(have, want, strict=True)]
    site.cut_(coupling, torch.cat(stays).view(coupling.grid), "shrink")


def _spread(wanted: int, parts: int, unit: str) -> list[int]:
    if wanted < 0 or wanted % parts:
        raise InputError(f"{unit}: {wanted} in {parts} equal parts")
    return [wanted // parts] * parts


def _no_site(
    model: nn.Module, name: str, facts: SiteFacts, directory: Path, cure: str
) -> ArtefactError:
    """Return the error for a layer that is not found where it was saved."""
    modules: dict[str, Any] = dict(model.named_modules())
    if name not in modules:
        return ArtefactError(
            f"{directory}: the built {type(model).__name__} has no {name}, which was saved",
            next_step=cure,
        )
    kind = type(modules[name]).__name__
    return ArtefactError(
        f"{directory}: {name} is a {kind}, which is not known as a layer of family {facts.family}",
        next_step=f"call ssmith.register({kind}, …) as before it was saved, then load again; or "
        + cure,
    )


def _check_meaning(site: Site, facts: SiteFacts, sidecar: Sidecar, directory: Path) -> None:
    """Refuse cut entries whose stored value is not that of the semantics the sidecar names."""
    for item in site.coupling("entry").slices:
        name = f"{site.name}.{item.parameter}".lstrip(".")
        masked = sidecar.masked.get(name)
        if masked is not None and STORED_A_LOG.get(facts.semantics or "") != masked.fill:
            raise ArtefactError(
                f"{directory}: cut entries of {name} are stored as {masked.fill:g}, which is not "
                f"what {facts.semantics!r} means",
                allowed=", ".join(f"{key}: {value:g}" for key, value in STORED_A_LOG.items()),
                next_step=_FROM_SOURCE,
            )
