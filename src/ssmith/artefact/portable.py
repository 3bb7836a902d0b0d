"""Where a model can be opened, in words: tried on a network without weights."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import nn

from ssmith.artefact.configs import HF_MODEL_TYPES
from ssmith.artefact.hugging_face import quiet
from ssmith.artefact.sidecar import SiteFacts, sites_in
from ssmith.core.optional import require
from ssmith.core.plan import Plan
from ssmith.core.unit import Mode
from ssmith.families import (
    Site,
    TaskModel,
    chain_of,
    sites,
    stock_configs,
    sync_config_,
    sync_depth_,
)
from ssmith.families.masks import masks_of, remove_mask_
from ssmith.families.parts.hooks import MAPS
from ssmith.families.parts.stock import is_stock, stock_of

YES = "yes; stock transformers opens it and gives the same logits"
OWN = "no; ssmith opens it"
BY_CLASS = "no; ssmith opens it, given the class of the network: load(path, build=…)"
_PROJECTS = (
    "no; its states are projected, and only ssmith runs them; stock transformers opens the "
    "weights with all states, as before the cut"
)
_ADDS = "no; it has offsets that stock transformers does not know, and only ssmith opens it"


def portable(model: nn.Module, plan: Plan, mode: Mode | None = None) -> tuple[nn.Module, str]:
    """Return a model as a plan cuts it, without its weights, and where it will open.

    A model that is none of transformers' is returned as it is.
    """
    if not is_language_model(model):
        return model, of_other(model)
    trial = without_weights(model)
    before, norms, known = stock_configs(trial), [], set(model.state_dict())
    for cut in plan.cuts:
        for name, keep in cut.keep.items():
            site = _owner(trial, name)
            coupling = site.coupling(cut.unit, name.removeprefix(site.name).lstrip("."))
            if (mode or coupling.modes[0]) == "shrink" or "mask" not in coupling.modes:
                site.cut_(coupling, keep, semantics=cut.semantics)
            elif coupling.renorms and not bool(keep.all()):
                norms.append(f"{site.name}.{coupling.renorms[0].norm}")
            if isinstance(site.module, nn.ModuleList | nn.Sequential):
                sync_depth_(trial, keep)
                before, known = stock_configs(trial), set(trial.state_dict())
    sync_config_(trial, before)
    made = set(plan.values) | set(trial.state_dict())
    added = sorted(made - known)
    return trial, by_trial(trial, sites_in(trial), added, norms)[1]


def by_trial(
    model: Any,
    facts: Mapping[str, SiteFacts],
    added: Collection[str] = (),
    norms: Collection[str] = (),
) -> tuple[bool, str]:
    """Return whether a model's configuration makes its sizes, and where it opens in words.

    ``added`` names what it has beside stock tensors, ``norms`` norms with an epsilon of their own.
    """
    if not is_language_model(model):
        return True, of_other(model)
    if _differs(model, added):
        return False, _unequal(_unequal_units(facts))
    if norms:
        return False, f"no; {min(norms)} has an epsilon of its own, and only ssmith opens it"
    if any(name.rpartition(".")[2] in MAPS for name in added):
        return True, _PROJECTS
    return True, _ADDS if added else YES


def is_language_model(model: Any) -> bool:
    """Return whether transformers itself opens a model from what it saves, and ssmith with it."""
    config = getattr(model, "config", None)
    if getattr(config, "model_type", None) not in HF_MODEL_TYPES or not is_stock(model):
        return False
    transformers = require("transformers", extra="hf", purpose="a Hugging Face model")
    known: Any = transformers.AutoModelForCausalLM._model_mapping.get(type(config), None)
    return stock_of(type(model)) is known


def of_other(model: nn.Module) -> str:
    """Return the sentence for a model that is none of transformers'."""
    made = isinstance(model, TaskModel) and model.size is not None
    return OWN if made or hasattr(model, "current_config") else BY_CLASS


def without_weights(model: nn.Module) -> nn.Module:
    """Return a copy whose parameters have shapes and no memory, and no masks."""
    empty = {
        id(item): nn.Parameter(item.detach().to("meta"), requires_grad=item.requires_grad)
        for item in model.parameters()
    }
    trial = copy.deepcopy(model, empty)
    for name, _, _ in list(masks_of(trial)):
        owner, _, parameter = name.rpartition(".")
        remove_mask_(trial.get_submodule(owner), parameter)
    return trial


def _owner(model: nn.Module, name: str) -> Site:
    """Return the site a cut names: a layer, a place in it, or the list of blocks."""
    there = sites(model)
    owners = [site for site in there if name == site or name.startswith(f"{site}.")]
    return there[max(owners, key=len)] if owners else chain_of(model)


def _unequal(what: str) -> str:
    if not what:
        return "no; its configuration does not say the sizes of its tensors"
    return f"no; layers hold unequal numbers of {what}, and only ssmith opens it"


def _unequal_units(facts: Mapping[str, SiteFacts]) -> str:
    seen: dict[tuple[str, str], set[str]] = {}
    for site in facts.values():
        for unit, size in site.sizes.items():
            seen.setdefault((site.family, unit), set()).add(str(size))
    return " and ".join(unit for (_, unit), sizes in seen.items() if len(sizes) > 1)


def _differs(model: Any, added: Collection[str]) -> bool:
    """Return whether a network built from the configuration has other tensors."""
    transformers = require("transformers", extra="hf", purpose="a Hugging Face model")
    with torch.device("meta"), quiet(transformers):
        built = stock_of(type(model))(copy.deepcopy(model.config))
    given = {name: value.shape for name, value in model.state_dict().items() if name not in added}
    return given != {name: value.shape for name, value in built.state_dict().items()}
