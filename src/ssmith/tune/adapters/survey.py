"""What a model offers to adapters: its mixers, layers, modules and parameters, by name."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from ssmith.core.errors import InputError
from ssmith.families import LTILayer
from ssmith.families.family import KINDS
from ssmith.families.hf.kinds import layer_kinds
from ssmith.families.parts.hooks import SLOT
from ssmith.families.parts.stock import kind_of
from ssmith.families.registry import MIXERS, mixers
from ssmith.families.sequence.block import Block

Coverage = dict[str, tuple[int, int]]
"""Per kind of layer, how many carry a part of the adapter, and how many there are."""


@dataclass(frozen=True, kw_only=True)
class Survey:
    """A model as adapters see it; parts of adapters that are attached already do not show.

    ``mixers`` are those the engine runs, ``foreign`` those it does not, with the reason; ``layers``
    count for coverage, by kind.
    """

    model: nn.Module
    modules: dict[str, nn.Module]
    mixers: dict[str, Any]
    foreign: dict[str, str]
    lti: dict[str, LTILayer]
    layers: dict[str, str]

    @classmethod
    def of(cls, model: nn.Module) -> Survey:
        """Look at a model."""
        modules = {
            name: part for name, part in model.named_modules() if SLOT not in name.split(".")
        }
        found, left = mixers(model)
        blocks = {name: "ssm" for name, part in modules.items() if isinstance(part, Block)}
        alone = {
            name: "ssm"
            for name, part in modules.items()
            if isinstance(part, LTILayer) and not any(is_below(name, block) for block in blocks)
        }
        return cls(
            model=model,
            modules=modules,
            mixers=found,
            foreign=dict(left),
            lti={name: part for name, part in modules.items() if isinstance(part, LTILayer)},
            layers={**layer_kinds(model), **blocks, **alone},
        )

    def maths_of(self, mixer: str) -> str:
        """Return which scan a mixer computes: ``"mamba"``, ``"mamba2"`` or ``"zamba"``."""
        engine, _ = MIXERS[kind_of(self.mixers[mixer])]
        return engine.name

    def all_parameters(self) -> list[tuple[str, nn.Parameter]]:
        """Return every name of every parameter of the base model; tied ones have several."""
        return [
            (f"{prefix}.{name}".lstrip("."), parameter)
            for prefix, module in self.modules.items()
            for name, parameter in module._parameters.items()
            if parameter is not None
        ]

    def parameters(self) -> dict[str, nn.Parameter]:
        """Return the base model's parameters by dotted name, tied ones once."""
        found: dict[int, tuple[str, nn.Parameter]] = {}
        for name, parameter in self.all_parameters():
            found.setdefault(id(parameter), (name, parameter))
        return dict(found.values())

    def tied(self, name: str) -> list[str]:
        """Return the other names of a parameter that the model uses in several places."""
        places = self.all_parameters()
        own = dict(places)[name]
        return [other for other, parameter in places if parameter is own and other != name]

    def layer_of(self, name: str) -> str | None:
        """Return the layer that a module or parameter belongs to, or None."""
        return next((layer for layer in self.layers if is_below(name, layer)), None)

    def coverage(self, owners: list[str]) -> Coverage:
        """Return by kind how many layers hold one of the named modules, and how many there are."""
        touched = {self.layer_of(owner) for owner in owners}
        kinds = {kind: [n for n, k in self.layers.items() if k == kind] for kind in KINDS}
        return {
            kind: (sum(name in touched for name in names), len(names))
            for kind, names in kinds.items()
            if names
        }


def is_below(name: str, outer: str) -> bool:
    """Return whether a dotted name is another one, or lies inside of it."""
    return not outer or name == outer or name.startswith(f"{outer}.")


def matching(target: str, names: list[str], what: str) -> list[str]:
    """Return the names that a target means."""
    found = [name for name in names if _means(target, name)]
    if found:
        return found
    endings = {".".join(name.split(".")[-depth:]): None for depth in (1, 2, 3) for name in names}
    close = get_close_matches(target, endings, n=4, cutoff=0.5)
    last = {name.rpartition(".")[2]: None for name in names}
    raise InputError(
        f"target {target!r} matches no {what} of the model",
        allowed=f"closest: {', '.join(close)}" if close else ", ".join(sorted(last)[:12]),
        next_step="name modules as the model does, e.g. by their last part",
    )


def _means(target: str, name: str) -> bool:
    if "*" in target or "?" in target:
        return fnmatchcase(name, target) or fnmatchcase(name, f"*.{target}")
    return name == target or name.endswith(f".{target}")
