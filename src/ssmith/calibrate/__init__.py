"""Calibration: what a layer's states do on sequences, or under white noise."""

from ssmith.calibrate.sensitivity import measure_sensitivity, with_sensitivity
from ssmith.calibrate.stream import measure_moments
from ssmith.calibrate.white import white_moments

__all__ = ["measure_moments", "measure_sensitivity", "white_moments", "with_sensitivity"]
