"""What a cut layer should do, on sequences or under white noise, and refits towards it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Complex128, Float64
from torch import Tensor

from ssmith.calibrate.inputs import fit_inputs
from ssmith.calibrate.record import Recording, moments_of_record
from ssmith.calibrate.white import white_inputs, white_moments_towards
from ssmith.core.compensation import Readout
from ssmith.core.layers import Modes
from ssmith.core.moments import Moments

Refit = Callable[[Modes, Moments], Readout]
"""Returns the best read-out of all states that are present, given the layer's moments."""


@runtime_checkable
class RefitTarget(Protocol):
    """The output a layer should have."""

    def moments(self, modes: Modes, change: Float64[Tensor, "m"]) -> Moments:
        """Return the moments of a layer, with what its output lacks; ``change`` is in D already."""

    def inputs(self, modes: Modes, change: Float64[Tensor, "m"]) -> Complex128[Tensor, "s i"]:
        """Return better input rows for a MIMO layer (see `moments`)."""


@dataclass(frozen=True, kw_only=True)
class RecordedTarget:
    """The output another model's layer gives on the same sequences.

    ``D`` is the layer's direct part before any change.
    """

    recordings: Sequence[Recording]
    D: Float64[Tensor, "m"]

    def moments(self, modes: Modes, change: Float64[Tensor, "m"]) -> Moments:
        return moments_of_record(modes, self.D + change, self.recordings)

    def inputs(self, modes: Modes, change: Float64[Tensor, "m"]) -> Complex128[Tensor, "s i"]:
        return fit_inputs(modes, self.D + change, self.recordings)


@dataclass(frozen=True, kw_only=True)
class WhiteTarget:
    """The output of the layer as it was, for white noise at its own input."""

    dense: Modes
    ridge: float

    def moments(self, modes: Modes, change: Float64[Tensor, "m"]) -> Moments:
        return white_moments_towards(modes, self.dense, change)

    def inputs(self, modes: Modes, change: Float64[Tensor, "m"]) -> Complex128[Tensor, "s i"]:
        return white_inputs(modes, self.dense, change, self.ridge)


@torch.no_grad()
def alternate(
    modes: Modes,
    target: RefitTarget,
    refit: Refit,
    *,
    rounds: int,
    change: Float64[Tensor, "m"],
) -> Readout:
    """Refit the read-out, then input rows and read-out in turn.

    Each half of a round solves least squares from where it stands, so the error never rises. SISO
    layers are done after the read-out: only the product of B and C counts there. The error that is
    returned is that before all refits and after the last.
    """
    now = modes
    found = refit(now, target.moments(now, change))
    before = found.error[0]
    for _ in range(rounds if modes.channel is None else 0):
        now = replace(now, C=found.C, C_back=found.C_back)
        change = change + found.D_change
        now = replace(now, B_bar=target.inputs(now, change))
        found = refit(now, target.moments(now, change))
    return replace(
        found,
        D_change=change + found.D_change,
        B_bar=None if now is modes else now.B_bar,
        error=(before, found.error[1]),
    )
