"""The quality table of cut selective models, rendered from its rows."""

from __future__ import annotations

import statistics
from typing import Any

from plots import Panel, draw

RIVALS = {
    "A_log": "SparseSSM v2, released",
    "columns": "SparseSSM structured",
    "projections": "SparseGPT as released",
    "whole model": "SparseSSM as released",
}
OURS = {
    "A_log": "Gram greedy + D (ours)",
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
        "the text that calibrated it (“… after code”: on a text of another kind): mean (smallest … "
        f"largest) over calibration seeds {seeds}. {facts['samples']} windows of "
        f"{facts['length']} bytes to calibrate on, {facts['test']} from all over the test split to "
        "measure on; cut entries of A_log are memoryless; nothing was trained again. Ours on "
        "projections leaves conv1d whole, takes as much more from the others, unless it says "
        "uniform. Sorted by the mean over models and texts at each level; rows without a bracket "
        "have one seed; – was not measured.",
        "",
        "How layers share the cut of A_log (by what it costs each of them, against equally) was "
        "chosen on the small model's code. " + confirmation(rows),
        "",
        "![Increase of perplexity against entries of A_log removed](selective-a-log.svg)",
        "",
        "![Increase of perplexity against state columns removed](selective-columns.svg)",
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


def confirmation(rows: list[dict[str, Any]]) -> str:
    """Return whether what was chosen on one model and text holds on the others, in words."""
    names = ("output energy (ours)", "output energy, by layer (ours)")
    said = []
    own = [row for row in rows if row["unit"] == "A_log" and row["level"] in ("50 %", "75 %")]
    for group in dict.fromkeys((row["model"], row["text"], row["level"]) for row in own):
        both = [
            [r for r in own if (r["model"], r["text"], r["level"]) == group and r["method"] == name]
            for name in names
        ]
        shared = {row["seed"] for row in both[0]} & {row["seed"] for row in both[1]}
        if shared and group[:2] != ("small", "code"):
            means = [_mean([row for row in rows if row["seed"] in shared]) for rows in both]
            held = "holds" if means[0] < means[1] else "does not hold"
            said.append(
                f"{', '.join(group)}: {held} ({means[0]:.2f} against {means[1]:.2f}, "
                f"{len(shared)} seed{'s' * (len(shared) > 1)})"
            )
    return "Elsewhere it is a confirmation: " + "; ".join(said) + "." if said else ""


# A line that rises tenfold above the others would press them flat; they are in the table.
OFF_THE_PLOT = ("magnitude", "magnitude, uniform", "random", "random, uniform")
OURS_ALL = {
    "A_log": ("Gram greedy + D (ours)", "output energy + D (ours)"),
    "columns": ("greedy after refit + C (ours)", "greedy after refit + C + D (ours)"),
}


def plot(rows: list[dict[str, Any]]) -> None:
    """Draw increase against level: a figure per unit that has several, a panel per model and text.

    Args:
        rows: of the table.
    """
    for unit, ours in OURS_ALL.items():
        panels = []
        for group in dict.fromkeys((row["model"], row["text"]) for row in rows):
            own = [
                row for row in rows
                if (row["unit"], row["model"], row["text"]) == (unit, *group)
                and "%" in row["level"] and row["method"] not in OFF_THE_PLOT
            ]  # fmt: skip
            series = {}
            for method in dict.fromkeys(row["method"] for row in own):
                points = _points([row for row in own if row["method"] == method])
                if len(points) > 1:
                    series[method] = points
            if series:
                panels.append(Panel(title=", ".join(group), series=series))
        if panels:
            name = f"selective-{unit.lower().replace('_', '-')}"
            draw(name, panels, (f"{unit} removed, %", "increase of perplexity, %"), ours=ours)


def _points(rows: list[dict[str, Any]]) -> list[tuple[float, float, float, float]]:
    points = []
    for level in sorted({row["level"] for row in rows}):
        values = [increase(row) for row in rows if row["level"] == level]
        points.append(
            (float(level.rstrip(" %")), statistics.mean(values), min(values), max(values))
        )
    return points


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
