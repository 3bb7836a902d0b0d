"""Surgery: what a plan says, done to a model."""

from ssmith.surgery.apply import new_values, prune_, receipt_of
from ssmith.surgery.reduce import reduce_modes
from ssmith.surgery.refit import check_fits, readout_values, refit, refit_readout

__all__ = [
    "check_fits",
    "new_values",
    "prune_",
    "readout_values",
    "receipt_of",
    "reduce_modes",
    "refit",
    "refit_readout",
]
