"""A unit as a table: which stretches of which tensors go together when one of it is cut."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

Mode = Literal["shrink", "mask"]
MODES: tuple[Mode, ...] = get_args(Mode)


@dataclass(frozen=True, kw_only=True)
class Slice:
    """A stretch of one tensor that belongs to a unit.

    Unit ``i`` of block ``r`` owns the indices ``start + r·step + i·stride + [0, width)``. Where the
    first axis counts slabs that each hold units of their own (experts), the indices of all slabs
    are counted one after the other, and unit ``i`` lies in slab ``i // each``.

    Args:
        parameter: dotted name of the parameter or buffer, from the site: ``"x_proj.weight"``.
        dim: axis it is cut along; None where every element is a unit of its own (masks only).
        start: first index of the first unit; where every element is a unit of its own, the axis
            at which the grid begins.
        width: consecutive indices one unit owns (a head: its channels).
        stride: from one unit to the next; ``width`` if None.
        repeat: equal blocks that each hold every unit (one per group).
        step: from one such block to the next.
        each: units in every slab of the first axis; 0 where all units share all of it.
        span: indices along ``dim`` in a slab.
        silent: value under a mask; None where a mask leaves it alone.
    """

    parameter: str
    dim: int | None = 0
    start: int = 0
    width: int = 1
    stride: int | None = None
    repeat: int = 1
    step: int = 0
    each: int = 0
    span: int = 0
    silent: float | None = None

    def places(self, units: Int64[Tensor, "u"]) -> Int64[Tensor, "u w"]:
        """Return the indices along ``dim`` that units own, a row for each."""
        stride = self.width if self.stride is None else self.stride
        blocks = (torch.arange(self.repeat) * self.step)[:, None]
        within = (blocks + torch.arange(self.width)).flatten()
        if self.each:
            slab, inner = units // self.each * self.span, units % self.each
            return self.start + slab[:, None] + inner[:, None] * stride + within
        return self.start + units[:, None] * stride + within

    def lines(self, value: Tensor) -> Tensor:
        """Return a tensor with what units own of it, of all slabs, along its first axis."""
        if self.dim is None:
            raise NotImplementedError(f"every element of {self.parameter} is a unit of its own")
        return value.movedim(self.dim, 1).flatten(0, 1) if self.each else value.movedim(self.dim, 0)

    def laid(self, lines: Tensor, slabs: int) -> Tensor:
        """Return a tensor as it was before `lines`."""
        if self.dim is None:
            raise NotImplementedError(f"every element of {self.parameter} is a unit of its own")
        if self.each:
            whole: Tensor = lines.unflatten(0, (slabs, -1))
            return whole.movedim(1, self.dim)
        return lines.movedim(0, self.dim)

    def removed(self, keep: Bool[Tensor, "u"], length: int) -> Bool[Tensor, "i"]:
        """Return which of ``length`` indices along ``dim``, in all slabs, belong to what goes."""
        gone = torch.zeros(length, dtype=torch.bool)
        gone[self.places((~keep).nonzero().flatten().cpu()).flatten()] = True
        return gone


@dataclass(frozen=True, kw_only=True)
class Renorm:
    """A root mean square norm that averages over the unit.

    Under a mask the mean still counts the silent places: weight and epsilon are rescaled so that
    the masked norm equals the shrunk one, ``w·√(k/n)`` and ``ε·k/n`` with k of n places left.

    Args:
        norm: dotted name of the norm, from the site.
        weight: name of its weight.
        epsilon: name of its epsilon.
    """

    norm: str
    weight: str = "weight"
    epsilon: str = "variance_epsilon"


@dataclass(frozen=True, kw_only=True)
class Coupling:
    """What goes together when units of one kind are cut from one site; printable.

    Args:
        unit: name of the unit, e.g. ``"state"``.
        target: what below the site is cut, for units that have several places in it
            (``"in_proj.weight"``); empty for the site itself.
        grid: shape of masks; their product is the number of units.
        slices: where the units live.
        sizes: attribute of the site → how much it falls with each unit that goes; a fraction
            where it takes several (one in each group). Dotted: ``"x_proj.out_features"``,
            ``"config.d_state"``.
        config_keys: key of the stock configuration → how much it falls with each unit, where
            all sites lose as many; 0 for a key that must be written out, as stock code would
            derive another value; empty where stock configurations cannot say it.
        per_block: as many units must go from each of so many equal parts (heads per group).
        least: fewest that may stay.
        output: dotted name of the linear layer that alone reads what the units give, each by its
            own columns; empty where something else reads it as well.
        renorms: norms that average over the unit.
        modes: how it can be cut; the first one is what happens unless told.
        notes: what a user must know before cutting.
    """

    unit: str
    target: str = ""
    grid: tuple[int, ...]
    slices: tuple[Slice, ...]
    sizes: Mapping[str, int | Fraction] = field(default_factory=dict)
    config_keys: Mapping[str, int | Fraction] = field(default_factory=dict)
    per_block: int = 1
    least: int = 1
    output: str = ""
    renorms: tuple[Renorm, ...] = ()
    modes: tuple[Mode, ...] = MODES
    notes: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """Number of units."""
        count = 1
        for size in self.grid:
            count *= size
        return count

    def columns(self) -> Int64[Tensor, "u w"]:
        """Return which columns of the output map read each unit."""
        (found,) = (item for item in self.of(f"{self.output}.weight") if item.dim == 1)
        return found.places(torch.arange(self.count))

    def of(self, parameter: str) -> tuple[Slice, ...]:
        """Return the slices of one parameter, by axis."""
        return tuple(item for item in self.slices if item.parameter == parameter)

    def stays(
        self, parameter: str, dim: int, keep: Bool[Tensor, "u"], length: int
    ) -> Int64[Tensor, "k"]:
        """Return which indices of a parameter stay along an axis."""
        gone = torch.zeros(length, dtype=torch.bool)
        for item in self.of(parameter):
            if item.dim == dim:
                gone |= item.removed(keep, length)
        return (~gone).nonzero().flatten()

    def __str__(self) -> str:
        rows = [f"{self.count} {self.unit}" + (f" of {self.target}" if self.target else "")]
        for item in self.slices:
            where = "every element" if item.dim is None else f"axis {item.dim} from {item.start}"
            wide = f", {item.width} each" if item.width > 1 else ""
            times = f", {item.repeat} times" if item.repeat > 1 else ""
            rows.append(f"  {item.parameter}: {where}{wide}{times}")
        rows += [f"  {name} falls by {amount}" for name, amount in self.sizes.items()]
        rows += [f"  note: {note}" for note in self.notes]
        return "\n".join(rows)
