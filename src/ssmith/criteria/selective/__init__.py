"""Criteria for selective layers: which entries of A_log and which state columns matter."""

from ssmith.criteria.selective.data_free import FastestDecay, LogMagnitude, RandomEntries
from ssmith.criteria.selective.energies import OutputEnergy, StateEnergy
from ssmith.criteria.selective.gram import GramGreedy
from ssmith.criteria.selective.protocol import Scoring, SelectiveCriterion
from ssmith.criteria.selective.refit import RefitGreedy
from ssmith.criteria.selective.sparsessm import SparseSSM
from ssmith.criteria.selective.votes import SparseSSMVotes

__all__ = [
    "FastestDecay",
    "GramGreedy",
    "LogMagnitude",
    "OutputEnergy",
    "RandomEntries",
    "RefitGreedy",
    "Scoring",
    "SelectiveCriterion",
    "SparseSSM",
    "SparseSSMVotes",
    "StateEnergy",
]
