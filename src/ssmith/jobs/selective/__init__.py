"""Pruning of selective layers: plan a walk, take it, say what happened."""

from ssmith.jobs.selective.config import SelectiveConfig
from ssmith.jobs.selective.run import prune_selective_

__all__ = ["SelectiveConfig", "prune_selective_"]
