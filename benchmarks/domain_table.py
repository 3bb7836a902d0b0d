"""Render what was measured outside of text as Markdown: dense, cut, and tuned onto a shift."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from typing import Any

Row = dict[str, Any]
ERRORS = ("demand",)
"""Tasks measured by an error, in the units of what is forecast; all others by accuracy."""
TITLES = {
    "speech": "Speech: five languages by clips of a second, then three of them by other voices",
    "images": "Images: MNIST by patches (S5), then scikit-learn's digits",
    "rows": "Images: MNIST by rows of pixels (S4D), then scikit-learn's digits",
    "sensors": "Sensors: seven exercises on the right wrist (S4D), then on the left one",
    "demand": "Forecast: bicycles hired 1, 6 and 24 hours ahead (S5), then in summer; mean error",
}
OURS = "state-offset"


def tasks(rows: list[Row]) -> list[str]:
    return list(dict.fromkeys(row["task"] for row in rows))


def own(rows: list[Row], task: str, kind: str) -> list[Row]:
    return [row for row in rows if row["task"] == task and row["kind"] == kind]


def shown(task: str, values: Iterable[float]) -> str:
    """Return the mean of values, and the least and largest where there are several."""
    found = [value if task in ERRORS else 100 * value for value in values]
    mean = f"{statistics.mean(found):.1f}"
    return mean if len(found) == 1 else f"{mean} ({min(found):.1f} … {max(found):.1f})"


def better(task: str, value: float) -> float:
    """Return a value as one that is better the larger it is."""
    return -value if task in ERRORS else value


def final(rows: list[Row], task: str) -> dict[str, list[Row]]:
    """Return each method's runs at its best rate, best validation on the first seed."""
    found = {}
    tuned = [row for row in own(rows, task, "tuned") if row["score"] is not None]
    for method in dict.fromkeys(row["method"] for row in tuned):
        here = [row for row in tuned if row["method"] == method]
        first = [row for row in here if row["seed"] == here[0]["seed"]]
        rate = max(first, key=lambda row: tuple(row["score"]))["rate"]
        found[method] = [row for row in here if row["rate"] == rate]
    return found


def dense_table(rows: list[Row], task: str) -> list[str]:
    """Return dense models beside plain methods, on both domains."""
    lines = ["| model | its own domain | the other, untouched |", "|---|---|---|"]
    models = own(rows, task, "dense")
    cells = [shown(task, [row[name] for row in models]) for name in ("source", "target")]
    lines.append(f"| state space model | {cells[0]} | {cells[1]} |")
    [plain] = [row for row in own(rows, task, "plain") if row["learned"] == "source"]
    for name, reached in plain["reached"].items():
        cells = [shown(task, [reached[where]]) for where in ("source", "target")]
        lines.append(f"| {name} | {cells[0]} | {cells[1]} |")
    return lines


def cut_table(rows: list[Row], task: str) -> list[str]:
    """Return what is left after a cut, for each criterion and ratio."""
    cuts = own(rows, task, "cut")
    ratios = sorted({row["ratio"] for row in cuts})
    lines = ["| states removed | " + " | ".join(f"{100 * ratio:g} %" for ratio in ratios) + " |"]
    lines.append("|---" * (1 + len(ratios)) + "|")
    for method in dict.fromkeys(row["method"] for row in cuts):
        cells = [
            shown(task, [row["value"] for row in cuts
                         if row["method"] == method and row["ratio"] == ratio])
            for ratio in ratios
        ]  # fmt: skip
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return lines


def tuned_table(rows: list[Row], task: str) -> list[str]:
    """Return what each tuning method reaches on the other domain, the best one first."""
    lines = ["| tuned on few rows of the other domain | numbers | there | back on its own |",
             "|---|---|---|---|"]  # fmt: skip
    found = final(rows, task)
    order = sorted(
        found, reverse=True,
        key=lambda name: better(task, statistics.mean(row["target"] for row in found[name])),
    )  # fmt: skip
    for name in order:
        cells = [shown(task, [row[where] for row in found[name]]) for where in ("target", "source")]
        mark = f"**{name}**" if name.startswith(OURS) else name
        lines.append(f"| {mark} | {found[name][0]['parameters']:,} | {cells[0]} | {cells[1]} |")
    models = own(rows, task, "dense")
    cells = [shown(task, [row[name] for row in models]) for name in ("target", "source")]
    lines.append(f"| *nothing* | 0 | {cells[0]} | {cells[1]} |")
    known, learned = ({row["learned"]: row["reached"] for row in own(rows, task, "plain")}[where]
                      for where in ("source", "target"))  # fmt: skip
    for name, reached in learned.items():
        # What learns nothing is the same on both.
        if reached != known[name]:
            there = shown(task, [reached["target"]])
            lines.append(f"| *{name} on the same rows* | | {there} | |")
    return lines


def table(rows: list[Row]) -> str:
    """Render all tasks: accuracy in percent, mean (smallest … largest) over training seeds."""
    spent = sum(row["cpu_seconds"] for row in rows)
    lines = [
        "Accuracy in percent on test rows, or the mean absolute error where it is said; mean "
        "(smallest … largest) over three training seeds. Nothing is trained after a cut. Measuring "
        f"took {spent / 60:.0f} minutes of one core.",
    ]
    for task in tasks(rows):
        lines += ["", f"### {TITLES.get(task, task)}", "", *dense_table(rows, task)]
        lines += ["", *cut_table(rows, task)]
        if own(rows, task, "tuned"):
            lines += ["", *tuned_table(rows, task)]
    return "\n".join(lines) + "\n"


def summary(rows: list[Row]) -> dict[str, Any]:
    """Return means of each task: dense, cut by half, tuned; JSON-ready."""
    found: dict[str, Any] = {}
    for task in tasks(rows):
        cuts = [row for row in own(rows, task, "cut") if row["ratio"] == 0.5]
        runs = final(rows, task)
        found[task] = {
            "dense": _mean(row["source"] for row in own(rows, task, "dense")),
            "shifted": _mean(row["target"] for row in own(rows, task, "dense")),
            "half_removed": {
                method: _mean(row["value"] for row in cuts if row["method"] == method)
                for method in dict.fromkeys(row["method"] for row in cuts)
            },
            "tuned": {name: _mean(row["target"] for row in own_) for name, own_ in runs.items()},
        }
    return found


def _mean(values: Iterable[float]) -> float:
    return round(statistics.mean(values), 4)
