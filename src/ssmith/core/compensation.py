"""Compensation: new read-outs for the states that stay, decided but not yet written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jaxtyping import Complex128, Float64
from torch import Tensor

from ssmith.core.checks import check_flag, check_number


@dataclass(frozen=True, kw_only=True)
class RefitConfig:
    """How read-outs are refitted.

    Args:
        ridge: noise added to every feature, as a share of its energy, > 0.
        direct: refit the diagonal of D as well.

    Raises:
        InputError: if a setting is outside its domain.
    """

    ridge: float = 1e-9
    direct: bool = False

    def __post_init__(self) -> None:
        check_number("ridge", self.ridge, above=0)
        check_flag("direct", self.direct)


@dataclass(frozen=True, kw_only=True)
class Readout:
    """New values for one layer's read-out.

    Args:
        C: read-out of each state, as in `Modes`; 0 for removed ones.
        C_back: the same for the backward branch, or None.
        D_change: what is added to D at each channel.
        error: mean squared error of the layer's output after the cut, summed over channels,
            before and after refitting, on the moments it was fitted to.
    """

    C: Complex128[Tensor, "s o"]
    C_back: Complex128[Tensor, "s o"] | None
    D_change: Float64[Tensor, "m"]
    error: tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Compensation:
    """What goes with a plan: how each cut layer makes up for the states it lost.

    Args:
        readouts: per layer of the plan, its new read-out.
        settings: how it was fitted, JSON-ready, for receipts.
    """

    readouts: dict[str, Readout]
    settings: dict[str, Any]
