"""What criteria ask of a selective layer's states, gathered while the scan runs.

A chunk of steps is held at a time, so memory is O(chunk·b·e·n) whatever the length; sums are kept
in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Float64
from torch import Tensor
from torch.nn import functional

from ssmith.core.errors import InputError
from ssmith.ops.precision import widened
from ssmith.ops.selective_scan.chunked import CHUNK, chunk_states
from ssmith.ops.selective_scan.inputs import ScanInputs
from ssmith.ops.selective_scan.reference import read_out, step_sizes

QUANTITIES = ("h_before", "h", "A_bar_h", "C_h", "C_A_bar_h")

Visit = Callable[[int, Float[Tensor, "k e n"], Float[Tensor, "k e n"]], None]
"""Called per chunk with its first step, and per step Σ_b s_b·h_before² and Σ_b Ā."""


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
        visit: called once per chunk for what needs every step (votes); sums over the batch.

    Raises:
        InputError: if a quantity is unknown.
    """

    energies: tuple[str, ...] = ("A_bar_h",)
    gram: str | None = None
    gated: bool = False
    time_weights: Float[Tensor, "l"] | None = None
    sample_weights: Float[Tensor, "b"] | None = None
    visit: Visit | None = None

    def __post_init__(self) -> None:
        for quantity in (*self.energies, *([] if self.gram is None else [self.gram])):
            if quantity not in QUANTITIES:
                raise InputError(f"quantity {quantity!r}", allowed=", ".join(QUANTITIES))


@dataclass(frozen=True, kw_only=True)
class ScanStatistics:
    """What was gathered.

    Args:
        energies: per quantity, Σ weight·value² over sequences and valid steps.
        gram: per channel, Σ weight·value·valueᵀ over its states; None if not asked for.
        weight: sum of the weights, without gate, of all valid steps.
    """

    energies: dict[str, Float64[Tensor, "e n"]] = field(default_factory=dict)
    gram: Float64[Tensor, "e n n"] | None = None
    weight: float = 0.0


@torch.no_grad()
def selective_scan_statistics(
    inputs: ScanInputs, config: StatisticsConfig
) -> tuple[Float[Tensor, "b l e"], Float[Tensor, "b e n"], ScanStatistics]:
    """Run the selective scan and gather statistics of its states in the same pass.

    Args:
        inputs: see `ScanInputs`. Steps that are not valid count for nothing.
        config: what is gathered.

    Returns:
        The outputs, the state after the last step, and the statistics.

    Source: SparseSSM (arXiv 2506.09613) for energies and per-step sums over samples.
    """
    inputs.check()
    wide = widened(inputs)
    dt, counted = step_sizes(wide), _counted(wide, config)
    weights = counted * _time_weights(wide, config)[:, None]
    h = wide.x.new_zeros(wide.x.shape[0], *wide.A.shape) if wide.h0 is None else wide.h0
    e, n = wide.A.shape
    sums = {name: wide.A.new_zeros(e, n, dtype=torch.float64) for name in config.energies}
    gram = None if config.gram is None else wide.A.new_zeros(e, n, n, dtype=torch.float64)
    outputs = []
    for start in range(0, wide.x.shape[1], CHUNK):
        part = slice(start, start + CHUNK)
        A_bar, states = chunk_states(wide.x[:, part], dt[:, part], wide.A, wide.B[:, part], h)
        C = wide.C[:, part].transpose(0, 1)[:, :, None, :]
        before = torch.cat([h[None], states[:-1]])
        weight = _gate(wide, weights, part, config)
        for name in sums:
            value = _value(name, A_bar, (before, states), C)
            sums[name] += torch.einsum("lbe,lben->en", weight, value.square()).double()
        if gram is not None and config.gram is not None:
            value = _value(config.gram, A_bar, (before, states), C)
            gram += torch.einsum("lbe,lben,lbek->enk", weight, value, value).double()
        if config.visit is not None:
            squares = torch.einsum("lb,lben->len", counted[part], before.square())
            config.visit(start, squares, A_bar.sum(1))
        outputs.append(torch.einsum("lben,bln->ble", states, wide.C[:, part]))
        h = states[-1].clone()
    y = torch.cat(outputs, dim=1) if outputs else torch.zeros_like(wide.x)
    found = ScanStatistics(energies=sums, gram=gram, weight=float(weights.double().sum()))
    return read_out(wide, y).to(inputs.x.dtype), h, found


def _counted(inputs: ScanInputs, config: StatisticsConfig) -> Float[Tensor, "l b"]:
    """Return the weight of every sequence at every step, zero where it is padding."""
    ones = inputs.x.new_ones(inputs.x.shape[1], inputs.x.shape[0])
    if config.sample_weights is not None:
        ones = ones * config.sample_weights.to(ones)
    return ones if inputs.valid is None else ones * inputs.valid.T


def _time_weights(inputs: ScanInputs, config: StatisticsConfig) -> Float[Tensor, "l"]:
    length, given = inputs.x.shape[1], config.time_weights
    if given is None:
        return inputs.x.new_ones(length)
    if given.shape != (length,):
        raise InputError(f"{len(given)} time weights", allowed=f"one per step, {length}")
    return given.to(inputs.x)


def _gate(
    inputs: ScanInputs, weights: Tensor, part: slice, config: StatisticsConfig
) -> Float[Tensor, "k b e"]:
    weight = weights[part, :, None].expand(-1, -1, inputs.x.shape[2])
    if not config.gated or inputs.z is None:
        return weight
    return weight * functional.silu(inputs.z[:, part]).transpose(0, 1).square()


def _value(
    name: str, A_bar: Tensor, states: tuple[Tensor, Tensor], C: Tensor
) -> Float[Tensor, "k b e n"]:
    before, after = states
    value = after if name in ("h", "C_h") else before
    if "A_bar" in name:
        value = A_bar * value
    return C * value if name.startswith("C") else value
