"""Training: from scratch, and (with adapters) from a trained model."""

from ssmith.tune.fit import Fit, FitConfig, fit
from ssmith.tune.hankel import hankel_penalty

__all__ = ["Fit", "FitConfig", "fit", "hankel_penalty"]
