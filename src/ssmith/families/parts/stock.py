"""Classes of transformers: what the engine runs, and what a module was before it did."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from ssmith.ops.backends import Op

STOCK = "_ssmith_stock_class"
"""Attribute of a class the engine made: the class it stands for."""


@dataclass(frozen=True, kw_only=True)
class Mixer:
    """A mixer of transformers that a family computes.

    ``keys`` maps a unit to the key of the configuration that counts it; ``hybrid`` is the class of
    the model that holds it beside attention layers.
    """

    model_type: str
    keys: Mapping[str, str] = field(default_factory=dict)
    hybrid: str | None = None


@dataclass(frozen=True, kw_only=True)
class Engine:
    """How the engine runs a family's mixers."""

    name: str
    forward: Callable[..., Tensor]
    scan: Op
    ops: tuple[Op, ...]
    mixers: Mapping[str, Mixer]


def stock_of(kind: type) -> Any:
    """Return the class a module had before the engine; its own if it never was swapped."""
    return kind.__dict__.get(STOCK, kind)


def kind_of(module: nn.Module) -> str:
    """Return the name of a module's own class."""
    kind = type(module)
    name: str = kind.__dict__.get(STOCK, kind).__name__
    return name


def is_stock(module: nn.Module) -> bool:
    """Return whether a module's class is transformers' own."""
    origin: str = stock_of(type(module)).__module__
    return origin.startswith("transformers.")
