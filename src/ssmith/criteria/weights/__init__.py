"""Criteria for the weights of projections and convolutions: inputs' second moments in, cuts out."""

from ssmith.criteria.weights.cut import Cut, WeightCriterion
from ssmith.criteria.weights.depthwise import DepthwiseCut, cut_depthwise
from ssmith.criteria.weights.obs import OBS
from ssmith.criteria.weights.plain import RandomWeights, Wanda, WeightMagnitude

__all__ = [
    "OBS",
    "Cut",
    "DepthwiseCut",
    "RandomWeights",
    "Wanda",
    "WeightCriterion",
    "WeightMagnitude",
    "cut_depthwise",
]
