"""Surgery: what a plan says, done to a model."""

from ssmith.surgery.apply import MODES, check_fits, prune_
from ssmith.surgery.reduce import reduce_modes
from ssmith.surgery.refit import refit, refit_readout

__all__ = ["MODES", "check_fits", "prune_", "reduce_modes", "refit", "refit_readout"]
