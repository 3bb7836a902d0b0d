"""Criteria for the states of groups: which of Mamba-2's, or which basis of them, matter."""

from ssmith.criteria.grouped.balanced import BalancedGroups
from ssmith.criteria.grouped.energies import GroupEnergy, GroupGreedy
from ssmith.criteria.grouped.protocol import GroupCriterion, StateScores
from ssmith.criteria.grouped.rivals import GHOST, GroupActivity, UniQL

__all__ = [
    "GHOST",
    "BalancedGroups",
    "GroupActivity",
    "GroupCriterion",
    "GroupEnergy",
    "GroupGreedy",
    "StateScores",
    "UniQL",
]
