"""Pruning of selective layers: plan a walk, take it, say what happened."""

from ssmith.jobs.selective.config import SelectiveConfig
from ssmith.jobs.selective.run import Pruned, plan_selective, prune_selective_

__all__ = ["Pruned", "SelectiveConfig", "plan_selective", "prune_selective_"]
