"""Every name that a user can say: models, data sets, criteria, metrics."""

from __future__ import annotations

import inspect
from dataclasses import dataclass

from ssmith.artefact import EMBEDDED, embedded_names
from ssmith.artefact.configs import read_any_config
from ssmith.artefact.locate import locate
from ssmith.core.directories import FORMAT
from ssmith.core.files import read_json
from ssmith.criteria import KINDS, by_name, names
from ssmith.data import PROSE_SPEC, STDLIB_SPEC, TASKS, about
from ssmith.evaluation import TASKS as METRICS
from ssmith.jobs.train import RECIPE
from ssmith.tune import adapters


@dataclass(frozen=True, kw_only=True)
class CatalogueEntry:
    """One name, as it is said, and what it is in a few words."""

    name: str
    about: str


TEXTS = {
    STDLIB_SPEC: "text for language models: the sources of the Python that runs",
    PROSE_SPEC: "text for language models: prose of its language reference",
}


def catalogue() -> dict[str, list[CatalogueEntry]]:
    """Return all names by kind."""
    return {
        "model": [_model(EMBEDDED + name) for name in embedded_names()],
        "data": [
            *(CatalogueEntry(name=EMBEDDED + name, about=about(name)) for name in TASKS),
            *(CatalogueEntry(name=name, about=said) for name, said in TEXTS.items()),
        ],
        **{
            f"method for {words}": [
                CatalogueEntry(
                    name=name, about=_about(by_name(name, kind), by_name(name, kind).label)
                )
                for name in names(kind)
            ]
            for kind, words in KINDS.items()
        },
        "method of tuning": [
            CatalogueEntry(name=name, about=_about(adapters.by_name(name, _NEEDED.get(name)), name))
            for name in adapters.METHODS
        ],
        "metric": [
            CatalogueEntry(
                name=name.replace(" ", "-"),
                about="higher is better" if task.metric.higher_is_better else "lower is better",
            )
            for name, task in METRICS.items()
        ],
    }


# What a method cannot do without, to name it at all.
_NEEDED = {"parameters": {"targets": ["D"]}}


def _model(spec: str) -> CatalogueEntry:
    place = locate(spec)
    config = read_any_config(place)
    # A language model keeps transformers' own configuration; its recipe knows its title.
    known = config.get("facts", {}) if config.get("format") == FORMAT else read_json(place / RECIPE)
    return CatalogueEntry(name=spec, about=str(known.get("title", "")))


def _about(criterion: object, label: str) -> str:
    first = (inspect.getdoc(type(criterion)) or "").partition("\n")[0].rstrip(".")
    return f"{label}: {first}"
