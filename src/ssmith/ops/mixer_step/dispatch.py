"""One step of a whole mixer on the best path there is."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from ssmith.ops.backends import chosen
from ssmith.ops.mixer_step.inputs import MixerStepInputs
from ssmith.ops.mixer_step.native import fits, mixer_step_native_
from ssmith.ops.mixer_step.reference import mixer_step_reference_


def mixer_step_(inputs: MixerStepInputs) -> Float[Tensor, "b m"]:
    """Advance a mixer by one step, without gradients; its state and window change in place."""
    if chosen("mixer_step", inputs.hidden) == "native" and fits(inputs):
        return mixer_step_native_(inputs)
    return mixer_step_reference_(inputs)
