"""Which layers a network has that can be cut, whatever network it is."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from ssmith.core.errors import ModelError, UnsupportedError
from ssmith.core.layers import LayerInfo, Modes
from ssmith.families.absent import source_of, tensors_by_name
from ssmith.families.attention import ATTENTION
from ssmith.families.diagonal import S4D, S5
from ssmith.families.experts import EXPERTS
from ssmith.families.family import Family, Site
from ssmith.families.feedforward import MLP
from ssmith.families.lti import LTILayer
from ssmith.families.mamba.family import MAMBA
from ssmith.families.mamba.selective import SelectiveLayer
from ssmith.families.mamba2.family import MAMBA2
from ssmith.families.masks import apply_mask_
from ssmith.families.parts.stock import Engine, Mixer, is_stock, kind_of
from ssmith.families.zamba.family import ZAMBA
from ssmith.ops.backends import Op

FAMILIES: tuple[Family, ...] = (S5, S4D, MAMBA, MAMBA2, ZAMBA, ATTENTION, EXPERTS, MLP)
"""Every family; the first one that owns a module has it."""
MIXERS: Mapping[str, tuple[Engine, Mixer]] = {
    kind: (family.engine, mixer)
    for family in FAMILIES
    if family.engine is not None
    for kind, mixer in family.engine.mixers.items()
}
"""Mixers of transformers that the engine runs, by name of their class."""


def family_of(module: nn.Module) -> Family | None:
    """Return the family that owns a module; None if none does."""
    if not module._modules and type(module).__module__.startswith("torch.nn."):
        # Most modules of a network are these: no class of torch's own is a layer without parts.
        return None
    return next((family for family in FAMILIES if family.owns(module)), None)


def sites(model: nn.Module) -> dict[str, Site]:
    """Return every layer of a network that a family owns, by its dotted name, in its order.

    A layer inside of one of them is part of it, unless its family holds layers. Layers whose
    weights are elsewhere (offloaded by accelerate) are none. May be empty.
    """
    found: dict[str, Site] = {}
    places = _places(model)
    for name, part in model.named_modules():
        inside = any(
            name.startswith(f"{outer}.") and not site.family.holds_layers
            for outer, site in found.items()
        )
        family = None if inside else family_of(part)
        if family is not None and not _is_offloaded(part):
            found[name] = Site(
                name=name, module=part, family=family, shared=_shared(part, name, places)
            )
    return found


def ssm_sites(model: nn.Module) -> dict[str, Site]:
    """Return the state space layers of a network, at least one."""
    found = {name: site for name, site in sites(model).items() if site.family.kind == "ssm"}
    if not found:
        raise _nothing(model)
    return found


def apply_masks_(model: nn.Module, masks: Mapping[str, tuple[Bool[Tensor, "..."], float]]) -> None:
    """Mask parameters by their dotted names (see `apply_mask_`).

    A mask is written before each pass of the layer that owns its parameter, or else of the module
    it stands in.
    """
    owners = {f"{name}." if name else "": site.module for name, site in sites(model).items()}
    for name, (mask, fill) in masks.items():
        prefix = next((prefix for prefix in owners if name.startswith(prefix)), None)
        if prefix is None:
            path, _, inside = name.rpartition(".")
            apply_mask_(model.get_submodule(path), inside, mask, fill)
        else:
            apply_mask_(owners[prefix], name.removeprefix(prefix), mask, fill)


def mixers(model: nn.Module) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """Return the mixers the engine runs, and those it does not with the reason."""
    found: dict[str, Any] = {}
    left = []
    for name, part in model.named_modules():
        if not hasattr(part, "A_log"):
            continue
        if kind_of(part) not in MIXERS or not is_stock(part):
            left.append((name, _why_not(part)))
        elif _is_offloaded(part):
            left.append((name, "its weights are offloaded by accelerate"))
        else:
            found[name] = part
    return found, left


def find_layers(model: nn.Module) -> dict[str, LTILayer]:
    """Return every LTI layer by its dotted name, in the model's order, at least one."""
    views = {name: site.view() for name, site in ssm_sites(model).items()}
    found = {name: view for name, view in views.items() if isinstance(view, LTILayer)}
    if not found:
        raise UnsupportedError(
            f"{type(model).__name__} has selective layers, which have no fixed modes",
            allowed="models with S5Layer or S4DLayer inside",
            next_step="plan and prune_ cut them by unit, e.g. state=0.5",
        )
    return found


def find_selective(model: nn.Module) -> dict[str, SelectiveLayer]:
    """Return every layer whose A_log can be cut, by its dotted name, at least one."""
    views = {name: site.view() for name, site in sites(model).items()}
    found = {name: view for name, view in views.items() if isinstance(view, SelectiveLayer)}
    if not found:
        known, left = mixers(model)
        reasons = [f"{name}: {reason}" for name, reason in left[:1]]
        reasons += [
            f"{name} is a {kind_of(mixer)}, whose A_log has one number per head"
            for name, mixer in list(known.items())[:1]
            if mixer.A_log.ndim == 1
        ]
        raise UnsupportedError(
            f"{type(model).__name__} has no layer with an A_log of its own for every channel"
            + (f" ({reasons[0]})" if reasons else ""),
            allowed="models with Mamba's mixers inside, of any make",
            next_step="`ssmith inspect` shows what a model has",
        )
    return found


def describe(model: nn.Module) -> tuple[LayerInfo, ...]:
    """Return what each state space layer holds (see `LayerInfo`)."""
    return tuple(site.info() for site in ssm_sites(model).values())


def beside(model: nn.Module) -> dict[str, int]:
    """Return by unit how many layers beside the state space ones can be cut by it."""
    tables = [
        table
        for site in sites(model).values()
        if site.family.kind != "ssm"
        for table in site.couplings
    ]
    units = dict.fromkeys(table.unit for table in tables)
    return {unit: sum(table.unit == unit for table in tables) for unit in units}


def scan_of(model: nn.Module) -> Op:
    """Return the operation a model scans with; raises as `ssm_sites` does."""
    engines = [site.family.engine for site in ssm_sites(model).values()]
    return next((engine.scan for engine in engines if engine is not None), "diagonal_scan")


def modes_of(model: nn.Module) -> tuple[Modes, ...]:
    """Return every layer as modes in float64 (see `Modes`)."""
    return tuple(layer.modes(name) for name, layer in find_layers(model).items())


_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts")
"""What configurations call the number of experts."""
StockConfig = Mapping[str, Mapping[str, Fraction]]


def stock_configs(model: nn.Module) -> StockConfig:
    """Return by site what a stock configuration says of it, and of a layer inside of it."""
    found = sites(model)
    return {
        name: site.family.stock_config(site.module)
        for name, site in found.items()
        if not any(name.startswith(f"{outer}.") for outer in found)
    }


def sync_config_(model: Any, before: StockConfig) -> None:
    """Make a network's configuration say what its layers are now, where they are all alike.

    ``before`` are its `stock_configs` before the cut.
    """
    current = getattr(model, "current_config", None)
    if current is not None:
        model.config = current()
        return
    config: Any = getattr(model, "config", None)
    now = stock_configs(model)
    for name, said in now.items():
        if config is None or said == before.get(name):
            continue
        values = {key: {other[key] for other in now.values() if key in other} for key in said}
        # Half of what belongs together would describe no model at all.
        if all(len(found) == 1 and min(found).denominator == 1 for found in values.values()):
            for key, found in values.items():
                setattr(config, key, int(min(found)))
                if key in _EXPERTS and isinstance(vars(model).get("num_experts"), int):
                    # Counted once more for the loss that balances them.
                    model.num_experts = int(min(found))


def model_digest(model: nn.Module) -> str:
    """Return a SHA-256 over the names, types, shapes and bytes of all tensors of a model."""
    source = source_of(model)
    if source is None:
        return tensors_digest(tensors_by_name(model))
    source.digest = source.digest or tensors_digest(tensors_by_name(model))
    return source.digest


def tensors_digest(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """Return the digest of a model whose tensors come one after the other, sorted by name."""
    digest = hashlib.sha256()
    for name, tensor in tensors:
        # An empty tensor may have any strides and still call itself contiguous; a clone may not.
        value = tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        digest.update(f"{name}|{value.dtype}|{tuple(value.shape)}|".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _places(model: nn.Module) -> dict[int, list[str]]:
    """Return by parameter the names under which different modules hold it."""
    places: dict[int, list[str]] = {}
    for prefix, part in model.named_modules():
        for name, value in part._parameters.items():
            if value is not None:
                places.setdefault(id(value), []).append(f"{prefix}.{name}".lstrip("."))
    return places


def _shared(part: nn.Module, prefix: str, places: Mapping[int, list[str]]) -> dict[str, str]:
    """Return the parameters of a layer that other modules hold too, with a name of theirs."""
    found = {}
    for name, value in part.named_parameters():
        own = f"{prefix}.{name}".lstrip(".")
        others = [other for other in places.get(id(value), ()) if other != own]
        if others:
            found[name] = others[0]
    return found


def _is_offloaded(part: nn.Module) -> bool:
    return any(hasattr(inner, "_hf_hook") for inner in part.modules())


_DELTA_RULE = ("DeltaNet", "DeltaAttention", "LinearAttention", "ForgetGate")


def _why_not(mixer: nn.Module) -> str:
    """Return why the engine does not run a module that has an ``A_log``, in words."""
    name = kind_of(mixer)
    if not is_stock(mixer):
        return f"{name} is not transformers' own code, which is what the engine knows"
    if name.endswith(_DELTA_RULE):
        return f"{name} updates a matrix by the gated delta rule, which is no selective scan"
    return f"{name} is not a mixer the engine knows"


def _nothing(model: nn.Module) -> ModelError:
    left = mixers(model)[1][:1]
    reasons = "".join(f" ({name}: {reason})" for name, reason in left)
    return ModelError(
        f"{type(model).__name__} has no state space layer ssmith knows{reasons}",
        allowed="S5Layer and S4DLayer, and mixers of transformers, mamba_ssm and mambapy",
        next_step="tell ssmith about a class of your own: ssmith.register(MyMixer, like='mamba')",
    )
