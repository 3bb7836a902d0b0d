"""Short hands for tables: slices of what is there, sizes of what is there."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from operator import attrgetter
from typing import Any

from torch import Tensor

from ssmith.core.unit import Slice


def slices_of(
    module: Any,
    name: str,
    *,
    dim: int = 0,
    start: int = 0,
    width: int = 1,
    repeat: int = 1,
    step: int = 0,
    silent: float | None = None,
) -> tuple[Slice, ...]:
    """Return a slice of a tensor, or of a layer's weight and bias, where they are there."""
    part = at(module, name)
    found = {name: part}
    if not isinstance(part, Tensor):
        found = {f"{name}.{each}": getattr(part, each, None) for each in ("weight", "bias")}
    return tuple(
        Slice(
            parameter=item, dim=dim, start=start, width=width, repeat=repeat, step=step,
            silent=silent,
        )
        for item, value in found.items()
        if isinstance(value, Tensor)
    )  # fmt: skip


def at(module: Any, place: str) -> Any:
    """Return an attribute by its dotted name; None where there is none."""
    try:
        return attrgetter(place)(module)
    except AttributeError:
        return None


def existing(module: Any, sizes: Mapping[str, int | Fraction]) -> dict[str, int | Fraction]:
    """Return the sizes that a layer has."""
    return {name: amount for name, amount in sizes.items() if isinstance(at(module, name), int)}


def conv_sizes(each: int) -> dict[str, int | Fraction]:
    """Return by how much the sizes of a depthwise convolution fall."""
    return dict.fromkeys(("conv1d.in_channels", "conv1d.out_channels", "conv1d.groups"), each)


def epsilon_of(norm: Any) -> str:
    """Return what a norm calls its epsilon."""
    return "variance_epsilon" if hasattr(norm, "variance_epsilon") else "eps"
