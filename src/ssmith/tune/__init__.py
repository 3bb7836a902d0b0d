"""Training: from scratch, and (with adapters) from a trained model."""

from ssmith.tune.hankel import hankel_penalty
from ssmith.tune.training import FitConfig, Training, fit

__all__ = ["FitConfig", "Training", "fit", "hankel_penalty"]
