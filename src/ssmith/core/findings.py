"""What a user must be told, and in what order: the gravest first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ssmith.core.settings import AsDict, from_mapping

GRAVE = (
    "weak-model",
    "leak",
    "emptied",
    "few-rows",
    "suspicious-values",
    "sentinel",
    "swapped-axes",
    "copied-recordings",
    "other-units",
    "other-steps",
    "lower-rate",
    "unknown-labels",
    "unstable",
    "few-samples",
    "below-floor",
    "direct-part-lost",
    "not-measured",
    "no-train-split",
)
"""Kinds of findings that put a result in doubt, the gravest first; all others are notes."""
_LAST = ("unsettled",)


@dataclass(frozen=True, kw_only=True)
class Finding(AsDict):
    """Something a user must be told: what was excepted, and why.

    Args:
        layer: dotted name of the layer, or "" for the whole model.
        kind: short machine-readable word, e.g. ``"unstable"``.
        message: one sentence for people.
        units: flat indices concerned, if any.
    """

    layer: str
    kind: str
    message: str
    units: tuple[int, ...] = ()

    @property
    def grave(self) -> bool:
        """Whether it puts a result in doubt."""
        return self.kind in GRAVE


def gravest_first(findings: Iterable[Finding]) -> list[Finding]:
    """Return findings each once: those of `GRAVE` in that order, then the others as they came."""
    return sorted(dict.fromkeys(findings), key=_rank)


def findings_in(document: Mapping[str, Any]) -> list[Finding]:
    """Return the findings of a JSON document of ours."""
    found = document.get("findings", ())
    return [from_mapping(Finding, item, where="a finding") for item in found]


def _rank(finding: Finding) -> int:
    if finding.grave:
        return GRAVE.index(finding.kind)
    return len(GRAVE) + (finding.kind in _LAST)
