"""LTI pruning: test accuracy of every criterion against the share of removed states.

Full: all reference tasks, all criteria, ratios 0.1 … 0.9 and 0.33, five training seeds, on the
test split; each task and seed is kept as it is measured, and a killed run goes on from there.
Quick: the shipped models only, three ratios.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import sys
from typing import Any

from plots import Panel, draw
from record import RESULTS, record
from ssmith import api
from ssmith.allocate import allocate
from ssmith.artefact import EMBEDDED
from ssmith.core.budget import Budget
from ssmith.core.files import read_json, write_json, write_text
from ssmith.core.plan import Plan
from ssmith.criteria import AIRE, LAMP, LAST, Criterion, Hinf, Magnitude, Random
from ssmith.families import model_digest, modes_of
from trained import CACHE, location, names, recipe_of, trained

RATIOS = (0.1, 0.2, 0.3, 0.33, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
QUICK_RATIOS = (0.33, 0.6, 0.8)
TOLERANCES = (0.005, 0.01)
CELLS = CACHE.parent / "lti"


def criteria(seed: int) -> list[Criterion]:
    return [
        Random(seed=seed),
        Magnitude(pool="layer"),
        Magnitude(pool="model"),
        LAMP(),
        Hinf(pool="layer"),
        Hinf(pool="model"),
        LAST(),
        AIRE(),
    ]


def quality(seeds: list[int], *, quick: bool) -> list[dict[str, Any]]:
    """Return one row per task, seed, criterion and ratio."""
    return [row for name in names() for seed in seeds for row in kept_cell(name, seed, quick)]


def kept_cell(name: str, seed: int, quick: bool) -> list[dict[str, Any]]:
    """Return the rows of one task and seed, measuring them if they were not measured yet."""
    # A changed recipe is another model, and another cell.
    path = CELLS / f"{location(name, seed).parent.name}-{seed}.json"
    if not quick and path.is_file():
        return list(read_json(path))
    rows = cell(name, seed, quick=quick)
    if not quick:
        write_json(path, rows)
    print(f"{name}, seed {seed}: dense {rows[0]['dense']:.4f}", file=sys.stderr, flush=True)
    return rows


def cell(name: str, seed: int, *, quick: bool) -> list[dict[str, Any]]:
    """Measure one row per criterion and ratio."""
    model = api.load(f"{EMBEDDED}{name}") if quick else trained(name, seed)
    test = api.load_data(recipe_of(name).data, model).split("test")
    if quick:
        test = test.first(200)
    dense = api.evaluate(model, test).value
    rows = []
    for criterion in criteria(seed):
        scores = criterion(modes_of(model))
        for ratio in QUICK_RATIOS if quick else RATIOS:
            shrunk = copy.deepcopy(model)
            cut, _ = allocate(scores, Budget("state", ratio))
            api.prune_(shrunk, Plan(cuts=(cut,), model_digest=model_digest(model)))
            rows.append(
                {
                    "task": name,
                    "seed": seed,
                    "method": criterion.label,
                    "ratio": ratio,
                    "removed": cut.sparsity,
                    "dense": dense,
                    "accuracy": api.evaluate(shrunk, test).value,
                    "count": len(test),
                }
            )
    return rows


def losses(rows: list[dict[str, Any]], method: str, ratio: float) -> list[float]:
    """Return the losses of a method at a ratio, in points, over tasks and seeds."""
    return [
        100 * (row["dense"] - row["accuracy"])
        for row in rows
        if row["method"] == method and row["ratio"] == ratio
    ]


def largest_ratio(rows: list[dict[str, Any]], tolerance: float) -> float:
    """Return the largest ratio up to which every smaller one loses at most ``tolerance``."""
    best = 0.0
    for row in sorted(rows, key=lambda item: item["ratio"]):
        if row["dense"] - row["accuracy"] > tolerance + 1e-12:
            break
        best = row["ratio"]
    return best


def summarise(rows: list[dict[str, Any]]) -> dict[str, Any]:
    methods = list(dict.fromkeys(row["method"] for row in rows))
    return {
        f"points_lost_at_{ratio:g}": {
            method: round(statistics.mean(losses(rows, method, ratio)), 3) for method in methods
        }
        for ratio in QUICK_RATIOS
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Render the rows as Markdown: loss in points, mean over seeds with its spread."""
    ratios = sorted({row["ratio"] for row in rows})
    methods = list(dict.fromkeys(row["method"] for row in rows))
    seeds = sorted({row["seed"] for row in rows})
    lines = [
        f"Points of test accuracy lost, mean (smallest … largest) over training seeds {seeds}. "
        "Negative: better than dense. Nothing was trained again. *Within 0.5 point*: the largest "
        "ratio up to which every smaller one loses no more than that, mean over seeds.",
        "",
        "![Points lost against states removed](lti.svg)",
    ]
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    for task in [*tasks, "all tasks"]:
        chosen = [row for row in rows if task in (row["task"], "all tasks")]
        dense = sorted({(row["task"], row["seed"], row["dense"]) for row in chosen})
        mean = statistics.mean(value for *_, value in dense)
        lines += ["", f"### {task}", "", f"Dense: {100 * mean:.2f} % (mean).", ""]
        lines.append("| method | " + " | ".join(f"{100 * ratio:g} %" for ratio in ratios) + " | ")
        lines[-1] += " | ".join(f"within {100 * item:g} point" for item in TOLERANCES) + " |"
        lines.append("|---" * (1 + len(ratios) + len(TOLERANCES)) + "|")
        for method in methods:
            own = [row for row in chosen if row["method"] == method]
            cells = []
            for ratio in ratios:
                lost = losses(own, method, ratio)
                cells.append(f"{statistics.mean(lost):.2f} ({min(lost):.1f} … {max(lost):.1f})")
            groups = {(row["task"], row["seed"]) for row in own}
            for tolerance in TOLERANCES:
                best = [
                    largest_ratio([r for r in own if (r["task"], r["seed"]) == key], tolerance)
                    for key in groups
                ]
                cells.append(f"{100 * statistics.mean(best):.0f} % removed")
            lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def plot(rows: list[dict[str, Any]]) -> None:
    """Draw the points lost against the share of states removed, a panel per task."""
    ratios = sorted({row["ratio"] for row in rows})
    panels = []
    for task in dict.fromkeys(row["task"] for row in rows):
        own = [row for row in rows if row["task"] == task]
        series = {}
        for method in dict.fromkeys(row["method"] for row in own):
            found = [(ratio, losses(own, method, ratio)) for ratio in ratios]
            series[method] = [
                (100 * ratio, statistics.mean(lost), min(lost), max(lost)) for ratio, lost in found
            ]
        panels.append(Panel(title=task, series=series))
    draw("lti", panels, ("states removed, %", "points of accuracy lost"), ours=("LAST", "AIRE"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seeds", default="0,1,2,3,4", help="training seeds, full run only")
    options = parser.parse_args()
    seeds = [0] if options.quick else [int(item) for item in options.seeds.split(",")]
    rows = quality(seeds, quick=options.quick)
    if not options.quick:
        write_text(RESULTS / "lti.md", table(rows))
        plot(rows)
    record("lti", {"quality": rows, "seeds": seeds}, summarise(rows), quick=options.quick)


if __name__ == "__main__":
    main()
