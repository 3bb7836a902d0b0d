"""Calibration: what a layer's states do on sequences, or under white noise."""

from ssmith.calibrate.stream import measure_moments
from ssmith.calibrate.white import white_moments

__all__ = ["measure_moments", "white_moments"]
