"""A whole sequence model: encoder, residual state space blocks, pooling, head."""

from ssmith.families.sequence.config import SequenceConfig
from ssmith.families.sequence.model import ModelState, SequenceModel

__all__ = ["ModelState", "SequenceConfig", "SequenceModel"]
