"""Cutting with and without refits: what each part gains, over tasks, ratios and training seeds.

Full: all reference tasks, ratios 0.5 … 0.95, several training seeds, on the test split. Quick: the
shipped models, two ratios, fewer sequences. Nothing is trained again. Refits see training
sequences only; nothing is chosen on the test split.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import sys
import time
from collections.abc import Iterator
from typing import Any

import torch

from record import RESULTS, record
from ssmith import api
from ssmith.artefact import EMBEDDED, embedded_names
from ssmith.core.budget import Budget
from ssmith.core.compensation import Compensation
from ssmith.core.files import write_text
from ssmith.core.plan import Plan
from ssmith.core.sequences import SequenceData
from ssmith.criteria import AIRE, LAST, StateOBS
from ssmith.evaluate import state_space_run, time_pair
from ssmith.families import LTIOptions, S5Layer, SequenceModel
from ssmith.jobs.methods import calibration
from trained import names, recipe_of, trained

RATIOS = (0.5, 0.7, 0.8, 0.9, 0.95)
QUICK_RATIOS = (0.8, 0.9)
PLAIN = ("LAST", "AIRE", "State-OBS, white, no refit", "State-OBS, data, no refit")
REFITTED = (
    "LAST, refit",
    "AIRE, refit",
    "State-OBS, white, refit on white",
    "State-OBS, white, refit",
    "State-OBS, data, refit",
    "LAST, refit by layer",
    "AIRE, refit by layer",
    "State-OBS, data, refit by layer",
    "State-OBS, chosen and refit by layer",
    "State-OBS, sensitivity, chosen and refit by layer",
)
OURS = REFITTED[-1]


def cuts(
    model: SequenceModel, data: SequenceData, ratios: tuple[float, ...]
) -> Iterator[tuple[str, float, Plan, Compensation | None]]:
    """Yield (method, ratio, plan, compensation) for every way to cut one model."""
    part = calibration(data)
    measured, white = api.moments(model, part), api.white_moments(model)
    scored = {
        "LAST": api.score(model, LAST()),
        "AIRE": api.score(model, AIRE()),
        "State-OBS, white": api.score(model, StateOBS(), white),
        "State-OBS, data": api.score(model, StateOBS(), measured),
    }
    for ratio in ratios:
        for name, scores in scored.items():
            plan = api.decide(scores, Budget(states=ratio), model)
            plain = name if name in PLAIN else f"{name}, no refit"
            yield plain, ratio, plan, None
            yield f"{name}, refit", ratio, plan, api.refit(model, plan, measured)
            if name == "State-OBS, white":
                yield f"{name}, refit on white", ratio, plan, api.refit(model, plan, white)
                continue
            yield f"{name}, refit by layer", ratio, *api.refit_by_layer(model, plan, part)
        for method, criterion in (
            (REFITTED[-2], StateOBS()),
            (OURS, StateOBS(weigh="sensitivity")),
        ):
            plan = api.plan(model, criterion, Budget(states=ratio), measured)
            yield method, ratio, *api.refit_by_layer(model, plan, part, criterion=criterion)


def quality(seeds: list[int], tasks: list[str], *, quick: bool) -> list[dict[str, Any]]:
    """Return one row per task, seed, method and ratio."""
    rows: list[dict[str, Any]] = []
    for name in tasks:
        for seed in seeds:
            model = api.load(f"{EMBEDDED}{name}") if quick else trained(name, seed)
            data = api.load_data(recipe_of(name).data, model)
            test = data.split("test")
            test = test.first(200) if quick else test
            dense = api.measure(model, test).value
            start = time.perf_counter()
            for method, ratio, plan, found in cuts(model, data, QUICK_RATIOS if quick else RATIOS):
                shrunk = copy.deepcopy(model)
                api.prune_(shrunk, plan, compensation=found)
                rows.append(
                    {
                        "task": name,
                        "seed": seed,
                        "method": method,
                        "ratio": ratio,
                        "removed": plan.removed_fraction,
                        "dense": dense,
                        "accuracy": api.measure(shrunk, test).value,
                        "count": len(test),
                    }
                )
                if method == OURS and ratio == 0.8:
                    rows[-1]["state_space_speedup"] = faster(model, shrunk, data, quick=quick)
            took = time.perf_counter() - start
            print(f"{name}, seed {seed}: dense {dense:.4f}, {took:.0f} s", file=sys.stderr)
    return rows


def faster(
    dense: SequenceModel, shrunk: SequenceModel, data: SequenceData, *, quick: bool
) -> float:
    """Return how many times faster the state space part of a cut model runs."""
    batch = data.split("selection").first(32)
    runs = [state_space_run(model, batch) for model in (dense, shrunk)]
    with torch.no_grad():
        return time_pair(runs[0], runs[1], seconds=0.2 if quick else 1.0).speedup


def costs() -> list[dict[str, Any]]:
    """Return the seconds that scoring one S5 layer of 256 pairs takes, in either direction."""
    rows = []
    for two_way in (False, True):
        layer = S5Layer(64, 256, blocks=8, options=LTIOptions(bidirectional=two_way))
        modes = layer.modes("layer")
        white = api.calibration.white_moments(modes)
        start = time.perf_counter()
        StateOBS()([modes], {"layer": white})
        took = time.perf_counter() - start
        rows.append({"pairs": 256, "bidirectional": two_way, "seconds": took})
    return rows


def lost(rows: list[dict[str, Any]], method: str, ratio: float) -> list[float]:
    """Return the losses of a method at a ratio, in points, over tasks and seeds."""
    return [
        100 * (row["dense"] - row["accuracy"])
        for row in rows
        if row["method"] == method and row["ratio"] == ratio
    ]


def table(rows: list[dict[str, Any]]) -> str:
    """Render the rows as Markdown: loss in points, mean over seeds with its spread."""
    ratios = sorted({row["ratio"] for row in rows})
    seeds = sorted({row["seed"] for row in rows})
    lines = [
        f"Points of test accuracy lost, mean (smallest … largest) over training seeds {seeds}. "
        "Negative: better than dense. Nothing was trained again; refits saw 256 training "
        "sequences."
    ]
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    for task in [*tasks, "all tasks"]:
        own = [row for row in rows if task in (row["task"], "all tasks")]
        dense = {(row["task"], row["seed"]): row["dense"] for row in own}
        lines += ["", f"### {task}", "", f"Dense: {100 * statistics.mean(dense.values()):.2f} %."]
        lines += ["", "| method | " + " | ".join(f"{100 * r:g} %" for r in ratios) + " |"]
        lines.append("|---" * (1 + len(ratios)) + "|")
        for method in (*PLAIN, *REFITTED):
            cells = []
            for ratio in ratios:
                found = lost(own, method, ratio)
                cells.append(f"{statistics.mean(found):.2f} ({min(found):.1f} … {max(found):.1f})")
            lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def summarise(rows: list[dict[str, Any]], timed: list[dict[str, Any]]) -> dict[str, Any]:
    speedups = [row["state_space_speedup"] for row in rows if "state_space_speedup" in row]
    return {
        "points_lost": {
            f"{ratio:g}": {
                method: round(statistics.mean(lost(rows, method, ratio)), 3)
                for method in (
                    "LAST",
                    "AIRE",
                    "LAST, refit by layer",
                    "AIRE, refit by layer",
                    *REFITTED[-2:],
                )
            }
            for ratio in (0.8, 0.9)
        },
        "state_space_speedup_at_80_percent": round(statistics.mean(speedups), 2),
        "seconds_to_score_256_pairs": round(max(row["seconds"] for row in timed), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seeds", default="0,1,2,3,4", help="training seeds, full run only")
    parser.add_argument("--tasks", default="", help="names of reference models; all if empty")
    options = parser.parse_args()
    torch.set_num_threads(1)
    seeds = [0] if options.quick else [int(item) for item in options.seeds.split(",")]
    shipped = list(embedded_names()) if options.quick else names()
    tasks = options.tasks.split(",") if options.tasks else shipped
    timed = costs()
    rows = quality(seeds, tasks, quick=options.quick)
    if not options.quick:
        write_text(RESULTS / "obs.md", table(rows))
    raw = {"quality": rows, "costs": timed, "seeds": seeds, "threads": torch.get_num_threads()}
    record("obs", raw, summarise(rows, timed), quick=options.quick)


if __name__ == "__main__":
    main()
