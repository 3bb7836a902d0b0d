"""A model in use: answers to new data, one step at a time, and what they rest on."""

from ssmith.serving.answering import PredictConfig, Predictions, predict
from ssmith.serving.attribution import Attribution, AttributionConfig, attribute
from ssmith.serving.stepping import ModelStream, StepAnswers, StreamConfig, stream

__all__ = [
    "Attribution",
    "AttributionConfig",
    "ModelStream",
    "PredictConfig",
    "Predictions",
    "StepAnswers",
    "StreamConfig",
    "attribute",
    "predict",
    "stream",
]
