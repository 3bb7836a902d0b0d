"""What can be gathered of a scan's states: the request, the answer, and the weights of steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from jaxtyping import Float, Float64
from torch import Tensor

from ssmith.core.errors import InputError
from ssmith.ops.selective_scan.inputs import ScanInputs

QUANTITIES = ("h_before", "h", "A_bar_h", "C_h", "C_A_bar_h")

Visit = Callable[[int, Float[Tensor, "k e n"]], None]
"""Called per chunk, of any length, with its first step, and per step Σ_b s_b·h_before².

The tensor is the visit's to use up; it holds something else after it.
"""


@dataclass(frozen=True, kw_only=True)
class StatisticsConfig:
    """What is gathered.

    Args:
        energies: quantities whose weighted squares are summed over sequences and steps.
            ``h_before`` is the state before a step, ``A_bar_h`` what the step keeps of it,
            ``C_h`` and ``C_A_bar_h`` what the read-out sees of either.
        gram: quantity whose weighted products between the states of a channel are summed.
        gated: weight each step of a channel with SiLU(z)², as its output is.
        time_weights: weight of each step; None for 1.
        sample_weights: weight of each sequence; None for 1.
        visit: called once per chunk for what needs every step (votes); sums over the batch. Goes
            alone.
        apart: weights w of the steps of Σ_t w_t·(Σ_b Ā)²·(Σ_b s_b·h_before²), sums over sequences
            taken apart; goes alone. None for none.
        outputs: whether the scan's outputs are wanted as well.

    Raises:
        InputError: if a quantity is unknown, or what goes alone does not.
    """

    energies: tuple[str, ...] = ("A_bar_h",)
    gram: str | None = None
    gated: bool = False
    time_weights: Float[Tensor, "l"] | None = None
    sample_weights: Float[Tensor, "b"] | None = None
    visit: Visit | None = None
    apart: Float[Tensor, "l"] | None = None
    outputs: bool = True

    def __post_init__(self) -> None:
        sums = bool(self.energies) or self.gram is not None
        if sums + (self.visit is not None) + (self.apart is not None) > 1:
            raise InputError(
                "more than one of energies (or a Gram matrix), visit and apart",
                allowed="one of them; energies=() for none",
            )
        for quantity in (*self.energies, *([] if self.gram is None else [self.gram])):
            if quantity not in QUANTITIES:
                raise InputError(f"quantity {quantity!r}", allowed=", ".join(QUANTITIES))


@dataclass(frozen=True, kw_only=True)
class ScanStatistics:
    """What was gathered.

    ``energies`` holds per quantity Σ weight·value² over sequences and valid steps, ``gram`` per
    channel Σ weight·value·valueᵀ over its states, ``weight`` the sum of all weights without gate.
    """

    energies: dict[str, Float64[Tensor, "e n"]] = field(default_factory=dict)
    gram: Float64[Tensor, "e n n"] | None = None
    weight: float = 0.0
    apart: Float64[Tensor, "e n"] | None = None


def counted(inputs: ScanInputs, config: StatisticsConfig) -> Float[Tensor, "l b"]:
    """Return the weight of every sequence at every step, zero where it is padding."""
    ones = inputs.x.new_ones(inputs.x.shape[1], inputs.x.shape[0])
    if config.sample_weights is not None:
        ones = ones * config.sample_weights.to(ones)
    return ones if inputs.valid is None else ones * inputs.valid.T


def time_weights(inputs: ScanInputs, given: Tensor | None) -> Float[Tensor, "l"]:
    """Return the weight of every step."""
    length = inputs.x.shape[1]
    if given is None:
        return inputs.x.new_ones(length)
    if given.shape != (length,):
        raise InputError(f"{len(given)} time weights", allowed=f"one per step, {length}")
    return given.to(inputs.x)
