"""What criteria see of the states that the heads of a group share: Mamba-2's, at one step."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class StateSample:
    """The states of some rows at one step, by group.

    Args:
        states: H, of all c channels of a group's heads.
        B: what is written to them at that step.
        C: what reads them.
        steps: Δ of each of a group's q heads.
        gain: what an error of each channel's output adds to the energy of the layer's output.
        valid: which rows have such a step.
    """

    states: Float[Tensor, "b g c n"]
    B: Float[Tensor, "b g n"]
    C: Float[Tensor, "b g n"]
    steps: Float[Tensor, "b g q"]
    gain: Float[Tensor, "b g c"]
    valid: Bool[Tensor, "b"]


@dataclass(frozen=True, kw_only=True)
class ReadSample:
    """Some states of some rows, by group, and what is read of all of them at one step.

    Args:
        states: H, of all c channels of a group's heads, k of its states.
        read: H C, of all states.
        gain: what an error of each channel's output adds to the energy of the layer's output.
        valid: which rows have such a step.
    """

    states: Float[Tensor, "b g c k"]
    read: Float[Tensor, "b g c"]
    gain: Float[Tensor, "b g c"]
    valid: Bool[Tensor, "b"]
