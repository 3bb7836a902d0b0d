"""One step of a whole Mamba mixer, its projections included."""

from ssmith.ops.mixer_step.dispatch import mixer_step_
from ssmith.ops.mixer_step.inputs import MixerStepInputs

__all__ = ["MixerStepInputs", "mixer_step_"]
