"""How a class calls the parts of its layer: users' mixers beside those that are known."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import Any

from torch import nn

from ssmith.core.checks import check_choice
from ssmith.core.errors import InputError
from ssmith.core.unit import Coupling
from ssmith.families.parts.stock import stock_of

PARTS: Mapping[str, tuple[str, ...]] = {
    "mamba": (
        "in_proj", "conv1d", "x_proj", "dt_proj", "out_proj", "A_log", "D", "act", "dt_layernorm",
        "b_layernorm", "c_layernorm",
    ),
    "mamba2": (
        "in_proj", "conv1d", "out_proj", "norm", "A_log", "D", "dt_bias", "num_heads", "head_dim",
        "n_groups", "ssm_state_size", "intermediate_size",
    ),
}  # fmt: skip
"""Per family that classes can be registered with: the parts of its layer under our names."""
UNITS: Mapping[str, tuple[str, ...]] = {"mamba": ("state", "channel"), "mamba2": ("channel",)}
"""Per family, units that a class may count in further attributes of its own."""


@dataclass(frozen=True, kw_only=True)
class Naming:
    """How a class calls things.

    ``names`` maps our name of a part to its own, dotted where it lies deeper, as ours if absent;
    ``sizes`` a unit to the attributes that count it.
    """

    family: str
    names: Mapping[str, str] = field(default_factory=dict)
    sizes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def name(self, part: str) -> str:
        """Return what the class calls a part, or something in it."""
        first, dot, rest = part.partition(".")
        return f"{self.names.get(first, first)}{dot}{rest}"

    def renamed(self, table: Coupling) -> Coupling:
        """Return a table that says our names as one that says the class's."""
        further = {
            name: amount
            for unit, amount in ((self.unit_of(size), each) for size, each in table.sizes.items())
            for name in self.sizes.get(unit, ())
        }
        return replace(
            table,
            slices=tuple(
                replace(item, parameter=self.name(item.parameter)) for item in table.slices
            ),
            output=self.name(table.output),
            sizes={self.name(size): amount for size, amount in table.sizes.items()} | further,
            renorms=tuple(replace(item, norm=self.name(item.norm)) for item in table.renorms),
        )

    @staticmethod
    def unit_of(size: str) -> str:
        """Return the unit that a size counts; empty where classes have one name for it."""
        return {"intermediate_size": "channel"}.get(size, "")


_REGISTERED: dict[type, Naming] = {}


def register(
    kind: type[nn.Module],
    *,
    like: str,
    names: Mapping[str, str] | None = None,
    sizes: Mapping[str, Iterable[str]] | None = None,
) -> None:
    """Say which family's layer a class of your own is, so that it can be cut.

    Whether the layer really computes what the family does is tried on a small random input when
    it is first looked at; `inspect` says the outcome.

    Args:
        kind: the class; its subclasses count, too. Registered again, the last word holds.
        like: ``"mamba"``: a selective scan with an A_log (channels, states), an ``in_proj`` to
            input and gate, a causal depthwise ``conv1d``, an ``x_proj`` to Δ, B and C, a
            ``dt_proj`` and an ``out_proj``; with or without biases. ``"mamba2"``: one decay per
            head, an ``in_proj`` to gate, input, B, C and Δ, a ``conv1d`` over all but the gate,
            a gated norm, an ``out_proj``, and sizes in attributes.
        names: our name of a part → the class's, dotted where it lies deeper, for those that
            differ: ``{"x_proj": "Dense_1"}``.
        sizes: unit → attributes of the layer that count it and its forward reads:
            ``{"state": ["n_state"]}``; dotted for those of a configuration.

    Raises:
        InputError: if the class is no module, or a family, part or unit is unknown.

    Example:
        >>> sm.register(MyMixer, like="mamba", names={"x_proj": "Dense_1"})
    """
    if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
        raise InputError(f"{kind!r} cannot be registered", allowed="a subclass of torch.nn.Module")
    check_choice("like", like, tuple(PARTS))
    for part in names or {}:
        check_choice("name of a part", part, PARTS[like])
    for unit in sizes or {}:
        check_choice("unit", unit, UNITS[like])
    counted = {unit: tuple(listed) for unit, listed in (sizes or {}).items()}
    _REGISTERED[kind] = Naming(family=like, names=dict(names or {}), sizes=counted)


def registered(module: nn.Module) -> Naming | None:
    """Return what was registered for a module's class or the next one above it."""
    above: tuple[type, ...] = stock_of(type(module)).__mro__
    return next((_REGISTERED[kind] for kind in above if kind in _REGISTERED), None)


class Named:
    """A module whose parts answer to our names; everything else is the module's own."""

    __slots__ = ("_layout", "module")

    module: Any

    def __init__(self, module: nn.Module, layout: Naming) -> None:
        object.__setattr__(self, "module", module)
        object.__setattr__(self, "_layout", layout)

    def __getattr__(self, name: str) -> Any:
        return attrgetter(self._layout.name(name))(self.module)

    def __setattr__(self, name: str, value: Any) -> None:
        path, _, last = self._layout.name(name).rpartition(".")
        setattr(attrgetter(path)(self.module) if path else self.module, last, value)

    def __call__(self, *args: Any) -> Any:
        """Run the module."""
        return self.module(*args)

    def __deepcopy__(self, memo: dict[int, Any]) -> Named:
        return Named(copy.deepcopy(self.module, memo), self._layout)
