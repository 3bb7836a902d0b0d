"""Calibration: what flows through sites, on any data or under white noise, site after site."""

from ssmith.calibrate.moments import measure_moments
from ssmith.calibrate.passages import Chain, Network, Passage, passage_of
from ssmith.calibrate.record import Recording, moments_between
from ssmith.calibrate.sensitivity import measure_sensitivity, weighted, with_sensitivity
from ssmith.calibrate.sequential import PassResult, run_pass
from ssmith.calibrate.stages import BRANCHES, SELECTION, PassConfig, Stage, measuring
from ssmith.calibrate.targets import RecordedTarget, RefitTarget, WhiteTarget, alternate
from ssmith.calibrate.white import white_moments

__all__ = [
    "BRANCHES",
    "SELECTION",
    "Chain",
    "Network",
    "PassConfig",
    "PassResult",
    "Passage",
    "RecordedTarget",
    "Recording",
    "RefitTarget",
    "Stage",
    "WhiteTarget",
    "alternate",
    "measure_moments",
    "measure_sensitivity",
    "measuring",
    "moments_between",
    "passage_of",
    "run_pass",
    "weighted",
    "white_moments",
    "with_sensitivity",
]
