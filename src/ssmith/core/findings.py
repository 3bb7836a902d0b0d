"""In what order findings are told: the gravest first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

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
    "below-floor",
    "direct-part-lost",
    "not-measured",
    "no-train-split",
)
"""Kinds of findings that put a result in doubt, the gravest first; all others are notes."""
_LAST = ("unsettled",)


def gravest_first(findings: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return findings as they are told, each once.

    Args:
        findings: as receipts hold them.

    Returns:
        Those of `GRAVE` in that order, then the others as they came.
    """
    different: list[dict[str, Any]] = []
    for item in map(dict, findings):
        if item not in different:
            different.append(item)
    return sorted(different, key=_rank)


def is_grave(finding: Mapping[str, Any]) -> bool:
    """Return whether a finding puts a result in doubt."""
    return finding.get("kind") in GRAVE


def _rank(finding: Mapping[str, Any]) -> int:
    kind = finding.get("kind")
    if kind in GRAVE:
        return GRAVE.index(kind)
    return len(GRAVE) + (kind in _LAST)
