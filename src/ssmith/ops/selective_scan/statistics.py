"""What criteria ask of a selective layer's states, gathered while the scan runs.

In plain torch a chunk of steps is held at a time, so memory is O(chunk·b·e·n) whatever the length;
sums are kept in float64. The CPU kernels hold a chunk of a few channels at a time.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from ssmith.ops.backends import chosen
from ssmith.ops.precision import widened
from ssmith.ops.selective_scan.chunked import CHUNK, chunk_states
from ssmith.ops.selective_scan.gathered import (
    QUANTITIES,
    ScanStatistics,
    StatisticsConfig,
    Visit,
    counted,
    time_weights,
)
from ssmith.ops.selective_scan.inputs import ScanInputs
from ssmith.ops.selective_scan.reference import read_out, step_sizes
from ssmith.ops.selective_scan.statistics_native import statistics_native

__all__ = ["QUANTITIES", "ScanStatistics", "StatisticsConfig", "Visit", "selective_scan_statistics"]


@torch.no_grad()
def selective_scan_statistics(
    inputs: ScanInputs, config: StatisticsConfig
) -> tuple[Float[Tensor, "b l e"] | None, Float[Tensor, "b e n"], ScanStatistics]:
    """Run the selective scan and gather statistics of its states in the same pass.

    Steps that are not valid count for nothing; outputs are None where they are not wanted.

    Source: SparseSSM (arXiv 2506.09613) for energies and per-step sums over samples.
    """
    inputs.check()
    native = chosen("selective_scan", inputs.x) == "native"
    if native and inputs.x.numel() and inputs.A.numel():
        return statistics_native(inputs, config)
    wide = widened(inputs)
    dt, valid = step_sizes(wide), counted(wide, config)
    weights = valid * time_weights(wide, config.time_weights)[:, None]
    h = wide.x.new_zeros(wide.x.shape[0], *wide.A.shape) if wide.h0 is None else wide.h0
    e, n = wide.A.shape
    sums = {name: wide.A.new_zeros(e, n, dtype=torch.float64) for name in config.energies}
    gram = None if config.gram is None else wide.A.new_zeros(e, n, n, dtype=torch.float64)
    outputs = []
    apart = None if config.apart is None else wide.A.new_zeros(e, n, dtype=torch.float64)
    over_time = time_weights(wide, config.apart)
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
        if config.visit is not None or apart is not None:
            squares = torch.einsum("lb,lben->len", valid[part], before.square())
            if apart is not None:
                products = A_bar.sum(1).square() * squares
                apart += torch.einsum("l,len->en", over_time[part], products).double()
            if config.visit is not None:
                config.visit(start, squares)
        if config.outputs:
            outputs.append(torch.einsum("lben,bln->ble", states, wide.C[:, part]))
        h = states[-1].clone()
    found = ScanStatistics(
        energies=sums, gram=gram, weight=float(weights.double().sum()), apart=apart
    )
    if not config.outputs:
        return None, h, found
    y = torch.cat(outputs, dim=1) if outputs else torch.zeros_like(wide.x)
    return read_out(wide, y).to(inputs.x.dtype), h, found


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
