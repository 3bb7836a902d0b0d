"""Surgery: what a plan says, done to a model."""

from ssmith.surgery.apply import MODES, check_fits, prune_

__all__ = ["MODES", "check_fits", "prune_"]
