"""What a model knows of its adapters: their methods, and how it was before them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from ssmith.core.errors import InputError
from ssmith.families.parts.hooks import SLOT
from ssmith.tune.adapters.method import Method
from ssmith.tune.adapters.part import Part
from ssmith.tune.adapters.slot import slots

_REGISTRY = "_ssmith_adapter_registry"


@dataclass
class Registry:
    """The adapters attached to one model.

    ``methods`` stand in the order adapters were attached; ``trained_before`` names the base
    parameters that required a gradient before; ``accelerated``: attaching put the model on the
    engine.
    """

    methods: dict[str, tuple[Method, ...]] = field(default_factory=dict)
    trained_before: frozenset[str] = frozenset()
    accelerated: bool = False


def registry_of(model: nn.Module) -> Registry | None:
    """Return a model's registry, or None if no adapter is attached."""
    found: Any = model.__dict__.get(_REGISTRY)
    return found if isinstance(found, Registry) else None


def set_registry(model: nn.Module, registry: Registry | None) -> None:
    """Give a model its registry, or take it away."""
    if registry is None:
        model.__dict__.pop(_REGISTRY, None)
    else:
        model.__dict__[_REGISTRY] = registry


def adapters_of(model: nn.Module) -> dict[str, tuple[Method, ...]]:
    """Return the methods of each adapter attached to a model, by its name."""
    registry = registry_of(model)
    return {} if registry is None else dict(registry.methods)


def check_name(model: nn.Module, name: str) -> None:
    """Raise unless a model has an adapter of this name."""
    names = list(adapters_of(model))
    if name not in names:
        raise InputError(
            f"adapter {name!r}",
            allowed=", ".join(names) or "none is attached",
            next_step="attach_ or load_adapter_ it first",
        )


def tensors(
    model: nn.Module, name: str | None = None
) -> Iterator[tuple[str, nn.Parameter, str, Part]]:
    """Yield the trainable parameters of one adapter, or of the active ones.

    Each with its dotted name in the model before it; after it the one in its part, and that.
    """
    if name is not None:
        check_name(model, name)
    for owner, _, slot in slots(model):
        for adapter in slot.active if name is None else (name,):
            for key, part in slot.of(adapter):
                for inner, parameter in part.named_parameters():
                    place = f"{owner}.{SLOT}.{adapter}.{key}.{inner}"
                    yield place.lstrip("."), parameter, inner, part


def trainable(model: nn.Module, name: str | None = None) -> dict[str, nn.Parameter]:
    """Return the trainable parameters of adapters, by their dotted names in the model."""
    return {place: parameter for place, parameter, _, _ in tensors(model, name)}


def groups(model: nn.Module, name: str | None = None) -> dict[str, dict[str, nn.Parameter]]:
    """Return the trainable parameters by method, for learning rates of their own."""
    found: dict[str, dict[str, nn.Parameter]] = {}
    for place, parameter, inner, part in tensors(model, name):
        found.setdefault(part.groups()[inner], {})[place] = parameter
    return found


def matrices(model: nn.Module, name: str | None = None) -> set[str]:
    """Return the names of the trainable parameters that Muon may step: factors of products."""
    return {
        place
        for place, parameter, inner, part in tensors(model, name)
        if inner in part.matrices and parameter.ndim == 2 and min(parameter.shape) > 1
    }
