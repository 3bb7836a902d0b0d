"""One step of a whole mixer on the CPU kernels, without gradients (decoding)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import Parameter

from ssmith.ops.mixer_step.inputs import MixerStepInputs
from ssmith.ops.native.loading import kernels, parts_for
from ssmith.ops.native.structs import MixerArgs


def mixer_step_native_(inputs: MixerStepInputs) -> Float[Tensor, "b m"]:
    """Compute what `mixer_step_reference_` does, in one call of the kernels.

    A step of a few sequences is bound by reading the weights once. The kernels do that at the speed
    of memory, and spare what a dozen operators cost on top of it. What is given must fit (see
    `fits`).
    """
    inputs.check()
    b, m = inputs.hidden.shape
    e, n = inputs.A_log.shape
    y = torch.empty(b, m)
    places = {
        name: 0 if tensor is None else tensor.data_ptr() for name, tensor in vars(inputs).items()
    }
    args = MixerArgs(
        b=b, m=m, e=e, n=n, r=inputs.dt_weight.shape[1], k=inputs.conv_weight.shape[1],
        parts=parts_for(inputs.in_weight.numel()), y=y.data_ptr(), **places,
    )  # fmt: skip
    kernels().call("mixer_step", args)
    return y


def fits(inputs: MixerStepInputs) -> bool:
    """Return whether the kernels can take tensors as they are: float32, on the CPU, without gaps.

    Weights of other kinds (quantised ones, say) are never plain tensors.
    """
    for tensor in vars(inputs).values():
        if tensor is None:
            continue
        if type(tensor) not in (Tensor, Parameter) or tensor.dtype != torch.float32:
            return False
        if not (tensor.is_cpu and tensor.is_contiguous()):
            return False
    return True
