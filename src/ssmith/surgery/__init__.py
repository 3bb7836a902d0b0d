"""Surgery: what a plan says, done to a model."""

from ssmith.surgery.apply import MODES, check_fits, prune_
from ssmith.surgery.refit import refit, refit_readout

__all__ = ["MODES", "check_fits", "prune_", "refit", "refit_readout"]
