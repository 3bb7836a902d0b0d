"""One step of a whole mixer, by the definitions of its parts."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from ssmith.ops.causal_conv.reference import causal_conv_reference
from ssmith.ops.mixer_step.inputs import MixerStepInputs
from ssmith.ops.selective_scan.inputs import ScanInputs
from ssmith.ops.selective_scan.reference import selective_scan_reference


def mixer_step_reference_(inputs: MixerStepInputs) -> Float[Tensor, "b m"]:
    """Advance a mixer by one step: project, convolve, select, step, project.

    Source: Mamba (arXiv 2312.00752), section 3.4.
    Differs: nothing; each part is the operation of that name.
    """
    inputs.check()
    r, n = inputs.dt_weight.shape[1], inputs.A_log.shape[1]
    raw, z = functional.linear(inputs.hidden, inputs.in_weight, inputs.in_bias).chunk(2, dim=-1)
    before = inputs.conv_state[:, :, 1:].mT
    x, _ = causal_conv_reference(raw[:, None], inputs.conv_weight, inputs.conv_bias, before)
    rank, B, C = functional.linear(x, inputs.x_weight).split([r, n, n], dim=-1)
    y, h = selective_scan_reference(
        ScanInputs(
            x=x, dt=functional.linear(rank, inputs.dt_weight), A=-inputs.A_log.exp(), B=B, C=C,
            D=inputs.D, z=z[:, None], dt_bias=inputs.dt_bias, dt_softplus=True, h0=inputs.h,
            h_offset=inputs.h_offset, y_offset=inputs.y_offset,
        )
    )  # fmt: skip
    inputs.conv_state.copy_(inputs.conv_state.roll(-1, dims=2))
    inputs.conv_state[:, :, -1] = raw
    inputs.h.copy_(h)
    return functional.linear(y[:, 0], inputs.out_weight, inputs.out_bias)
