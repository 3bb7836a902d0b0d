"""Measured values in the words of one language."""

from __future__ import annotations

from collections.abc import Callable

from ssmith.dashboard.language import Language, mark
from ssmith.dashboard.measures import Measures

SHARES = ("accuracy", "f1", "auc", "precision", "recall")
"""Parts of names of metrics that are shares, and shown in per cent."""
METRICS = {
    "accuracy": mark("accuracy"),
    "perplexity": mark("perplexity"),
    "bits per byte": mark("bits per byte"),
    "mae": mark("mean absolute error"),
    "mean absolute error": mark("mean absolute error"),
    "mse": mark("mean squared error"),
    "rmse": mark("root mean squared error"),
    "loss": mark("loss"),
}
"""Metric → its name in words."""
UNITS = {
    "states": mark("states"),
    "state": mark("states"),
    "entry": mark("entries"),
    "entries": mark("entries"),
    "weight": mark("weights"),
    "weights": mark("weights"),
    "channel": mark("channels"),
    "head": mark("heads"),
    "neuron": mark("neurons"),
    "block": mark("blocks"),
}
STATES = {
    "live": mark("live"),
    "before": mark("was live"),
    "refused": mark("refused"),
    "waiting": mark("waiting"),
}


def metric_name(measures: Measures) -> str:
    """Return the name of the quality; unknown ones as they are."""
    return METRICS.get(measures.metric.lower(), measures.metric)


def unit_name(unit: str) -> str:
    """Return the name of a unit; unknown ones as they are."""
    return UNITS.get(unit, unit)


def is_share(metric: str) -> bool:
    """Whether a metric is shown in per cent."""
    return any(word in metric.lower() for word in SHARES)


def quality(measures: Measures, language: Language) -> str:
    """Return the quality with its interval; empty if it is not known."""
    if measures.quality is None:
        return ""
    shown = quality_format(measures.metric, language)
    value = shown(measures.quality)
    if measures.interval is None:
        return value
    low, high = map(shown, measures.interval)
    return language.say("{value} ({low} to {high})").format(value=value, low=low, high=high)


def quality_format(metric: str, language: Language) -> Callable[[float], str]:
    """Return how a value of a metric is written."""
    if is_share(metric):
        return language.percent
    return lambda value: language.number(value, digits=4)


def difference(measures: Measures, language: Language) -> str:
    """Return the difference to the model it was made from, with its interval."""
    if measures.difference is None:
        return ""
    share = is_share(measures.metric)
    shown = language.points if share else language.difference
    value = shown(measures.difference)
    if measures.difference_interval is None:
        return language.say("{value} points").format(value=value) if share else value
    low, high = map(shown, measures.difference_interval)
    if share:
        return language.say("{value} points ({low} to {high})").format(
            value=value, low=low, high=high
        )
    return language.say("{value} ({low} to {high})").format(value=value, low=low, high=high)
