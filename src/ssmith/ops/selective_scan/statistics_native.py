"""Statistics of a scan's states on the CPU kernels, in the pass that computes its outputs."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from ssmith.ops.native.loading import kernels
from ssmith.ops.native.memory import written
from ssmith.ops.native.structs import StatisticsArgs, address
from ssmith.ops.reuse import empty
from ssmith.ops.selective_scan.gathered import (
    QUANTITIES,
    ScanStatistics,
    StatisticsConfig,
    counted,
    time_weights,
)
from ssmith.ops.selective_scan.inputs import ScanInputs
from ssmith.ops.selective_scan.native import arguments, low_rank, prepared

VISITED = 32
"""Steps that a visit is shown at a time: what they fill should stay in a second level cache."""


def statistics_native(
    inputs: ScanInputs, config: StatisticsConfig
) -> tuple[Float[Tensor, "b l e"] | None, Float[Tensor, "b e n"], ScanStatistics]:
    """Compute what `selective_scan_statistics` does, in float32 with sums in float64."""
    inputs, dt_weight = low_rank(inputs)
    tensors = prepared(inputs)
    (b, length, e), n = inputs.x.shape, inputs.A.shape[1]
    valid = counted(inputs, config).float()
    weights = (valid * time_weights(inputs, config.time_weights)[:, None].float()).T.contiguous()
    valid = valid.T.contiguous()
    sums = {name: inputs.A.new_zeros(n, e, dtype=torch.float64) for name in config.energies}
    gram = None if config.gram is None else inputs.A.new_zeros(n, n, e, dtype=torch.float64)
    y = empty((b, length, e)) if config.outputs else None
    h_last = torch.empty(b, n, e, dtype=torch.float32)
    fields = arguments(tensors, inputs.dt_softplus, dt_weight)
    fields |= {"y": 0 if y is None else written(y), "h_last": address(h_last)}
    fields["gated"] = int(config.gated and inputs.z is not None)
    fields |= {"weights": address(weights), "counted": address(valid), "gram": address(gram)}
    fields |= {name: address(total) for name, total in sums.items()}
    fields["gram_of"] = -1 if config.gram is None else QUANTITIES.index(config.gram)
    apart = None
    if config.apart is not None:
        apart = inputs.A.new_zeros(n, e, dtype=torch.float64)
        over_time = time_weights(inputs, config.apart).float().contiguous()
        fields |= {"step_weights": address(over_time), "apart": address(apart)}
    kernel = "scan_statistics" if config.visit is None and apart is None else "scan_in_step"
    span = length if config.visit is None else VISITED
    shown = torch.empty(0 if config.visit is None else span, n, e)
    for start in range(0, length, span):
        part = {"from": start, "to": min(length, start + span), "squares": address(shown)}
        kernels().call(kernel, StatisticsArgs(**(fields | part)))
        fields["h0"] = fields["h_last"]
        if config.visit is not None:
            config.visit(start, shown[: part["to"] - start].mT)
    found = ScanStatistics(
        energies={name: total.T.contiguous() for name, total in sums.items()},
        gram=None if gram is None else _symmetric(gram),
        weight=float(weights.double().sum()),
        apart=None if apart is None else apart.T.contiguous(),
    )
    return None if y is None else y.to(inputs.x.dtype), h_last.mT, found


def _symmetric(lower: Float[Tensor, "n n e"]) -> Float[Tensor, "e n n"]:
    """Return per channel the matrix of which the kernel fills the lower triangle."""
    products = lower.permute(2, 0, 1).contiguous()
    return products + products.tril(-1).mT
