"""Criteria: one paper per file; modes of all layers in, scores out."""

from ssmith.criteria.aire import AIRE
from ssmith.criteria.common import Criterion
from ssmith.criteria.hinf import Hinf
from ssmith.criteria.lamp import LAMP
from ssmith.criteria.last import LAST
from ssmith.criteria.magnitude import Magnitude
from ssmith.criteria.names import KINDS, by_name, names, unknown_method, with_settings
from ssmith.criteria.random import Random
from ssmith.criteria.state_obs import StateOBS

__all__ = [
    "AIRE",
    "KINDS",
    "LAMP",
    "LAST",
    "Criterion",
    "Hinf",
    "Magnitude",
    "Random",
    "StateOBS",
    "by_name",
    "names",
    "unknown_method",
    "with_settings",
]
