"""Criteria for the weights of projections and convolutions: inputs' second moments in, cuts out."""

from ssmith.criteria.weights.cut import WeightCriterion, WeightCut, measured_cut
from ssmith.criteria.weights.depthwise import cut_depthwise
from ssmith.criteria.weights.obs import OBS
from ssmith.criteria.weights.plain import RandomWeights, Wanda, WeightMagnitude, keep_by

__all__ = [
    "OBS",
    "RandomWeights",
    "Wanda",
    "WeightCriterion",
    "WeightCut",
    "WeightMagnitude",
    "cut_depthwise",
    "keep_by",
    "measured_cut",
]
