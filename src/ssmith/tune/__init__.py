"""Training: from scratch, and (with adapters) from a trained model."""

from ssmith.tune.fit import Fit, FitConfig, fit

__all__ = ["Fit", "FitConfig", "fit"]
