"""The quality table of cut selective models, rendered from its rows."""

from __future__ import annotations

import statistics
from typing import Any

RIVALS = {
    "A_log": "SparseSSM v2, released",
    "columns": "SparseSSM structured",
    "projections": "SparseGPT as released",
    "whole model": "SparseSSM as released",
}
OURS = {
    "A_log": "output energy + D (ours)",
    "columns": "greedy after refit + C + D (ours)",
    "projections": "OBS + refit (ours)",
    "whole model": "ours",
}


def increase(row: dict[str, Any]) -> float:
    """Perplexity over the dense model's, minus one, in per cent."""
    return 100 * (row["perplexity"] / row["dense"] - 1)


def table(rows: list[dict[str, Any]], facts: dict[str, Any]) -> str:
    """Render all rows as Markdown, best method first within each group."""
    seeds = sorted({row["seed"] for row in rows})
    lines = [
        "Increase of perplexity per byte over the dense model in per cent, on the test split of "
        f"the text that calibrated it: mean (smallest … largest) over calibration seeds {seeds}. "
        f"{facts['samples']} windows of {facts['length']} bytes; cut entries of A_log are "
        "memoryless; nothing was trained again. Ours on projections leaves conv1d whole, takes as "
        "much more from the others, unless it says uniform. Methods that were not measured have no "
        "row. Sorted by the mean over models and texts at the "
        "highest level; rows without a bracket have one seed."
    ]
    groups = list(dict.fromkeys((row["model"], row["text"]) for row in rows))
    for unit in dict.fromkeys(row["unit"] for row in rows):
        for level in dict.fromkeys(row["level"] for row in rows if row["unit"] == unit):
            own = [row for row in rows if row["unit"] == unit and row["level"] == level]
            methods = sorted(
                dict.fromkeys(row["method"] for row in own),
                key=lambda method: _mean([row for row in own if row["method"] == method]),
            )
            lines += ["", f"### {unit}, {level}", ""]
            lines.append("| method | " + " | ".join(f"{m}, {t}" for m, t in groups) + " |")
            lines.append("|---" * (1 + len(groups)) + "|")
            for method in methods:
                cells = [
                    _cell(
                        [r for r in own if r["method"] == method and (r["model"], r["text"]) == g]
                    )
                    for g in groups
                ]
                lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def summarise(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return our increase as a share of the rival's, per unit, level, model and text."""
    found: dict[str, Any] = {}
    for unit, rival in RIVALS.items():
        for level in dict.fromkeys(row["level"] for row in rows if row["unit"] == unit):
            for group in dict.fromkeys((row["model"], row["text"]) for row in rows):
                own = [
                    row for row in rows
                    if (row["unit"], row["level"], row["model"], row["text"])
                    == (unit, level, *group)
                ]  # fmt: skip
                ours = [row for row in own if row["method"] == OURS[unit]]
                theirs = [row for row in own if row["method"] == rival]
                if ours and theirs:
                    key = f"{unit}, {level}: {OURS[unit]} / {rival}"
                    found.setdefault(key, {})[", ".join(group)] = round(
                        _mean(ours) / _mean(theirs), 3
                    )
    return found


def _mean(rows: list[dict[str, Any]]) -> float:
    return statistics.mean(increase(row) for row in rows) if rows else float("inf")


def _cell(rows: list[dict[str, Any]]) -> str:
    if not rows:
        return "–"
    values = [increase(row) for row in rows]
    if len(values) == 1:
        return f"{values[0]:.2f}"
    return f"{statistics.mean(values):.2f} ({min(values):.2f} … {max(values):.2f})"
