"""One step of the selective scan, by the scan's own definition."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from ssmith.ops.selective_scan.reference import selective_scan_reference
from ssmith.ops.selective_step.inputs import StepInputs


def selective_step_reference(
    inputs: StepInputs,
) -> tuple[Float[Tensor, "b e"], Float[Tensor, "b e n"]]:
    """Advance the state by one step and read it out.

    Source: Mamba (arXiv 2312.00752), section 3.3.
    Differs: it is the scan at length one, so that prefill and decoding share one formula.
    """
    y, h = selective_scan_reference(inputs.as_scan())
    return y[:, 0], h
