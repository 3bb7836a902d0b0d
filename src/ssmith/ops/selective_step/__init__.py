"""One step of a selective scan."""

from ssmith.ops.selective_step.dispatch import selective_step
from ssmith.ops.selective_step.inputs import StepInputs

__all__ = ["StepInputs", "selective_step"]
