"""Every name that a user can say: models, data sets, criteria, metrics."""

from __future__ import annotations

import inspect
from dataclasses import dataclass

from ssmith.artefact import EMBEDDED, embedded_names
from ssmith.artefact.locate import locate
from ssmith.artefact.own import read_config
from ssmith.criteria import by_name, criterion_label, criterion_names
from ssmith.criteria.selective import selective_by_name, selective_names
from ssmith.data import TASKS, about
from ssmith.evaluate import METRICS
from ssmith.tune import adapters


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One name.

    Args:
        name: as it is said.
        about: what it is, in a few words.
    """

    name: str
    about: str


def catalogue() -> dict[str, list[Entry]]:
    """Return all names by kind."""
    return {
        "model": [_model(EMBEDDED + name) for name in embedded_names()],
        "data": [Entry(name=EMBEDDED + name, about=about(name)) for name in TASKS],
        "criterion": [_criterion(name) for name in criterion_names()],
        "criterion for selective models": [
            Entry(name=name, about=_about(selective_by_name(name), selective_by_name(name).label))
            for name in selective_names()
        ],
        "method of tuning": [
            Entry(name=name, about=_about(adapters.by_name(name, _NEEDED.get(name)), name))
            for name in adapters.METHODS
        ],
        "metric": [
            Entry(
                name=name.replace(" ", "-"),
                about="higher is better" if metric.higher_is_better else "lower is better",
            )
            for name, metric in METRICS.items()
        ],
    }


# What a method cannot do without, to name it at all.
_NEEDED = {"parameters": {"targets": ["D"]}}


def _model(spec: str) -> Entry:
    return Entry(name=spec, about=str(read_config(locate(spec))["facts"].get("title", "")))


def _criterion(name: str) -> Entry:
    criterion = by_name(name)
    return Entry(name=name, about=_about(criterion, criterion_label(criterion)))


def _about(criterion: object, label: str) -> str:
    first = (inspect.getdoc(type(criterion)) or "").partition("\n")[0].rstrip(".")
    return f"{label}: {first}"
