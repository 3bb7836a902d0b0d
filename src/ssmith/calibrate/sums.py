"""Sums of products over the states themselves: any layer, O(f²) memory beside one batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Complex128, Float, Float64, Int64
from torch import Tensor

from ssmith.core.errors import DataError, NumericalError
from ssmith.core.layers import Modes
from ssmith.core.layout import Layout
from ssmith.core.moments import Moments
from ssmith.ops.diagonal import diagonal_scan, varied_scan
from ssmith.ops.discretise import discretise, undiscretise

ROWS = 2**22
"""Complex numbers of state that are held at once; longer batches are cut into fewer sequences."""

States = tuple[Tensor, Tensor | None]
"""A layer's states, (b, l, s), and those of its backward branch or None."""


@runtime_checkable
class Sums(Protocol):
    """Collects sequences and gives a layer's moments; any order of batches gives the same."""

    def add(
        self,
        u: Float[Tensor, "b l m"],
        valid: Bool[Tensor, "b l"],
        lacking: Float[Tensor, "b l m"] | None,
        widths: Float[Tensor, "b l"] | None = None,
    ) -> None:
        """Add the steps of some sequences."""

    def result(self) -> Moments:
        """Return the mean products."""


@dataclass(kw_only=True)
class StateSums:
    """Sums over explicit states, for every kind of layer."""

    modes: Modes
    layout: Layout = field(init=False)
    steps: int = 0
    sums: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.layout = Layout.of(self.modes)

    def add(
        self,
        u: Float[Tensor, "b l m"],
        valid: Bool[Tensor, "b l"],
        lacking: Float[Tensor, "b l m"] | None,
        widths: Float[Tensor, "b l"] | None = None,
    ) -> None:
        for index in self.blocks(u):
            given = u[index].double().cpu()
            rest = None if lacking is None else lacking[index].double().cpu()
            states = states_of(self.modes, given, None if widths is None else widths[index])
            self.add_states(states, given, valid[index].cpu(), rest)

    def blocks(self, u: Float[Tensor, "b l m"]) -> tuple[Int64[Tensor, "_"], ...]:
        """Return which sequences are taken together, so that their states fit into memory."""
        per_sequence = max(1, u.shape[1] * self.modes.count * self.layout.directions)
        split: tuple[Tensor, ...] = torch.arange(len(u)).split(max(1, ROWS // per_sequence))
        return split

    def add_states(
        self,
        states: States,
        u: Float64[Tensor, "b l m"],
        valid: Bool[Tensor, "b l"],
        lacking: Float64[Tensor, "b l m"] | None,
    ) -> None:
        """Add the steps of some sequences whose states, from `states_of`, are known already."""
        front, back = states
        z = self.layout.features(front[valid], None if back is None else back[valid])
        given = self.layout.signals(u[valid])
        e = torch.zeros_like(given) if lacking is None else self.layout.signals(lacking[valid])
        self.steps += int(valid.sum())
        found = {
            "gram": z.mT @ z,
            "error": z.mT @ e,
            "error_energy": (e * e).sum(1),
            "input": z.mT @ given,
            "input_energy": (given * given).sum(1),
            "input_error": (given * e).sum(1),
        }
        accumulate(self.sums, found)

    def result(self) -> Moments:
        return mean_of(self.modes.layer, self.sums, self.steps)


def accumulate(sums: dict[str, Tensor], found: Mapping[str, Tensor]) -> None:
    """Add what a batch gave to the sums; those over lags grow with the longest batch."""
    for name, value in found.items():
        before = sums.get(name, value.new_zeros(()))
        missing = value.shape[-1] - before.shape[-1] if before.ndim else 0
        pad = torch.nn.functional.pad
        before = pad(before, (0, missing)) if missing > 0 else before
        sums[name] = before + (pad(value, (0, -missing)) if missing < 0 else value)


def states_of(
    modes: Modes, u: Float[Tensor, "b l m"], widths: Float[Tensor, "b l"] | None = None
) -> States:
    """Return a layer's states on sequences, and those of the backward branch if it has one.

    ``widths`` are those of uneven steps, which no layer reads that has a backward branch.
    """
    B = modes.B_bar * modes.present.unsqueeze(-1)
    Bu = complex_product(u, B.mT) if modes.channel is None else u[..., modes.channel] * B[:, 0]
    if widths is not None:
        A_bar, gain = varied(modes, widths.cpu())
        return varied_scan(A_bar, gain * Bu), None
    front = diagonal_scan(modes.A_bar, Bu)[0]
    if modes.C_back is None:
        return front, None
    return front, diagonal_scan(modes.A_bar, Bu, reverse=True)[0]


def varied(
    modes: Modes, widths: Float[Tensor, "b l"]
) -> tuple[Complex128[Tensor, "b l s"], Complex128[Tensor, "b l s"]]:
    """Return what steps of other widths make of ``A_bar``, and times what they take ``B_bar``."""
    kind, usual = modes.discretisation, torch.ones(modes.count, dtype=torch.float64)
    drift = modes.drift
    if drift is None:
        drift = undiscretise(modes.A_bar, usual, kind)
    A_bar, gain = discretise(drift, widths.double()[..., None] * usual, kind)
    return A_bar, gain / discretise(drift, usual, kind)[1]


def complex_product(
    real: Float64[Tensor, "... i"], matrix: Complex128[Tensor, "i s"]
) -> Complex128[Tensor, "... s"]:
    """Return the product of a real and a complex matrix, at the price of two real ones."""
    columns = torch.view_as_real(matrix.resolve_conj()).flatten(-2)
    return torch.view_as_complex((real @ columns).unflatten(-1, (-1, 2)))


def mean_of(layer: str, sums: Mapping[str, Tensor], steps: int) -> Moments:
    """Turn sums into moments."""
    if not steps:
        raise DataError(
            "there is no valid step to calibrate on",
            next_step="check the lengths",
        )
    means = {name: value / steps for name, value in sums.items()}
    if not all(bool(torch.isfinite(value).all()) for value in means.values()):
        raise NumericalError(
            f"layer {layer}: its states left the finite numbers on these sequences",
            next_step="check the model for unstable states and the data for extreme values",
        )
    return Moments(layer=layer, source="data", steps=steps, **means)
