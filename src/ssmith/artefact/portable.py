"""Where a model can be opened, in words: before it is cut from the tables, afterwards by trial."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import nn

from ssmith.artefact.configs import HF_MODEL_TYPES
from ssmith.artefact.hugging_face import quiet
from ssmith.artefact.sidecar import SiteFacts
from ssmith.core.optional import require
from ssmith.core.plan import Plan
from ssmith.core.unit import Coupling, Mode
from ssmith.families import Site, sites
from ssmith.families.parts.stock import is_stock, stock_of

YES = "yes; stock transformers opens it and gives the same logits"
OWN = "no; ssmith opens it"
BY_CLASS = "no; ssmith opens it, given the class of the network: load(path, build=…)"
_ADDS = "no; it has offsets that stock transformers does not know, and only ssmith opens it"


def portable(model: nn.Module, plan: Plan, mode: Mode | None = None) -> str:
    """Return where a model that is cut by a plan will open, from the tables of its units.

    Args:
        model: the dense model.
        plan: what goes.
        mode: as `prune_` is given it.

    Returns:
        "yes" or "no", with the reason.
    """
    if not is_language_model(model):
        return of_other(model)
    if set(plan.values) - set(model.state_dict()):
        return _ADDS
    there, fewer = sites(model), False
    counts: dict[tuple[str, str], dict[str, int]] = {}
    for cut in plan.cuts:
        for name, keep in cut.keep.items():
            owner = _owner(name, there)
            if owner is None:
                # A list of blocks: later cuts name those that are left.
                fewer = True
                continue
            coupling = owner.coupling(cut.unit, name.removeprefix(owner.name).lstrip("."))
            if (mode or coupling.modes[0]) == "mask":
                if coupling.renorms and not bool(keep.all()):
                    return f"no; a norm over masked {cut.unit} has its own epsilon in each layer"
                continue
            broken = _broken(owner, coupling, keep.numel() - int(keep.sum()))
            if broken:
                return broken
            left = counts.setdefault((owner.family.name, cut.unit), {})
            left[owner.name] = int(keep.sum())
    for (family, unit), left in counts.items():
        alike = [site for site in there.values() if site.family.name == family and not fewer]
        for site in alike:
            left.setdefault(site.name, site.coupling(unit).count)
        if len(set(left.values())) > 1:
            return _unequal(unit)
    return YES


def by_trial(
    model: Any,
    facts: Mapping[str, SiteFacts],
    added: Collection[str] = (),
    norms: Collection[str] = (),
) -> tuple[bool, str]:
    """Return whether a model's configuration makes it, and where it opens in words.

    Args:
        model: as it is saved; tensors may be without memory.
        facts: of its sites.
        added: names of what it has beside stock tensors.
        norms: names of norms that have an epsilon of their own.

    Returns:
        Whether the sizes of a network built from its configuration are those of its weights, and
        the sentence.
    """
    if not is_language_model(model):
        return True, of_other(model)
    if _differs(model, added):
        return False, _unequal(_unequal_units(facts))
    if norms:
        return False, f"no; {min(norms)} has an epsilon of its own, and only ssmith opens it"
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
    return OWN if hasattr(model, "current_config") else BY_CLASS


def _owner(name: str, there: Mapping[str, Site]) -> Site | None:
    owners = [site for site in there if name == site or name.startswith(f"{site}.")]
    return there[max(owners, key=len)] if owners else None


def _broken(site: Site, coupling: Coupling, gone: int) -> str:
    """Return why a stock configuration cannot say what is left, in words; empty if it can."""
    if not coupling.config_keys:
        return f"no; stock configurations cannot say how many {coupling.unit} there are"
    said = site.family.stock_config(site.module)
    for key, each in coupling.config_keys.items():
        value = said[key] - each * gone
        if value.denominator != 1:
            return f"no; {key} would be {value}, and stock code wants a whole number"
    return ""


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
