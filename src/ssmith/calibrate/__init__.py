"""Calibration: what a layer's states do on sequences, or under white noise."""

from ssmith.calibrate.record import record
from ssmith.calibrate.sensitivity import measure_sensitivity, with_sensitivity
from ssmith.calibrate.stream import LayerOutputs, measure_moments, outputs_of
from ssmith.calibrate.targets import RecordedTarget, Target, WhiteTarget, alternate
from ssmith.calibrate.white import white_moments

__all__ = [
    "LayerOutputs",
    "RecordedTarget",
    "Target",
    "WhiteTarget",
    "alternate",
    "measure_moments",
    "measure_sensitivity",
    "outputs_of",
    "record",
    "white_moments",
    "with_sensitivity",
]
