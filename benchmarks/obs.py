"""Cutting with and without refits: what each part gains, over tasks, ratios and training seeds.

Full: all reference tasks, five ratios and training seeds, on the test split; what is done of a task
and a seed is kept under .cache/, so a killed run goes on where it was. Quick: the shipped models,
two ratios, fewer sequences. Nothing is trained after a cut. Refits see training sequences only;
nothing is chosen on the test split.
"""

from __future__ import annotations

import argparse
import copy
import sys
import time
from pathlib import Path
from typing import Any

import torch

import obs_table
from record import RESULTS, record
from ssmith import api
from ssmith.artefact import EMBEDDED, embedded_names
from ssmith.core.budget import Budget
from ssmith.core.errors import SsmithError
from ssmith.core.files import read_json, write_json, write_text
from ssmith.criteria import StateOBS
from ssmith.evaluate import ACCURACY, predict
from ssmith.families import LTIOptions, S5Layer, SequenceModel
from ssmith.jobs.methods import calibration, method_named
from trained import CACHE, location, names, recipe_of, trained

RATIOS = (0.3, 0.5, 0.7, 0.8, 0.9)
QUICK_RATIOS = (0.8, 0.9)
METHODS = (
    "last",
    "aire",
    "state-obs+no-refit",
    "last+refit",
    "aire+refit",
    "state-obs+refit-once",
    "state-obs+refit",
    "state-obs",
    "balanced",
)
COSTLY = {"balanced": 0.9}
"""Methods that are measured from a ratio on only."""
CELLS = CACHE.parent / "obs"


def cell(name: str, seed: int, *, quick: bool) -> list[dict[str, Any]]:
    """Measure every method at every ratio on one trained model."""
    model = api.load(f"{EMBEDDED}{name}") if quick else trained(name, seed)
    data = api.load_data(recipe_of(name).data, model)
    test, part = data.split("test"), calibration(data)
    test = test.first(200) if quick else test

    def outcomes(candidate: SequenceModel) -> str:
        hits = ACCURACY.per_sequence(predict(candidate, test), test.y)
        return "".join(str(int(hit)) for hit in hits)

    rows = [{"task": name, "seed": seed, "method": "dense", "ratio": 0.0, "hits": outcomes(model)}]
    for spec in METHODS:
        method = method_named(spec)
        prepared = method.prepare(model, part)
        for ratio in QUICK_RATIOS if quick else RATIOS:
            if ratio < COSTLY.get(spec, 0.0):
                continue
            row = {"task": name, "seed": seed, "method": method.label, "ratio": ratio}
            start = time.perf_counter()
            try:
                plan, found = method.decide(model, prepared, Budget(states=ratio), part)
                shrunk = copy.deepcopy(model)
                done = api.prune_(shrunk, plan, compensation=found)
            except SsmithError as error:
                rows.append({**row, "why": error.what})
                continue
            rows.append(
                {
                    **row,
                    "removed": plan.removed_fraction,
                    "hits": outcomes(shrunk),
                    "seconds": round(time.perf_counter() - start, 2),
                    "findings": [item["kind"] for item in done.findings],
                }
            )
    return rows


def measured(name: str, seed: int, *, quick: bool) -> list[dict[str, Any]]:
    """Return a cell's rows, from an earlier run where it is done already."""
    path = CELLS / f"{location(name, seed).parent.name}-{seed}.json"
    if not quick and path.exists():
        found: list[dict[str, Any]] = read_json(path)
        return found
    start = time.perf_counter()
    rows = cell(name, seed, quick=quick)
    if not quick:
        write_json(path, rows)
    print(f"{name}, seed {seed}: {time.perf_counter() - start:.0f} s", file=sys.stderr)
    return rows


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


def done_cells(tasks: list[str], seeds: list[int]) -> list[tuple[str, int]]:
    """Return which cells an earlier run has left."""
    found = [(name, seed) for seed in seeds for name in tasks]
    return [
        (name, seed)
        for name, seed in found
        if Path(CELLS / f"{location(name, seed).parent.name}-{seed}.json").exists()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seeds", default="0,1,2,3,4", help="training seeds, full run only")
    parser.add_argument("--tasks", default="", help="names of reference models; all if empty")
    parser.add_argument(
        "--only-done", action="store_true", help="render what earlier runs have left, and no more"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    seeds = [0] if options.quick else [int(item) for item in options.seeds.split(",")]
    shipped = list(embedded_names()) if options.quick else names()
    tasks = options.tasks.split(",") if options.tasks else shipped
    cells = [(name, seed) for seed in seeds for name in tasks]
    if options.only_done:
        cells = done_cells(tasks, seeds)
    rows = [row for name, seed in cells for row in measured(name, seed, quick=options.quick)]
    timed = costs()
    missing = [
        f"{name} seed {seed}" for seed in seeds for name in tasks if (name, seed) not in cells
    ]
    if not options.quick:
        write_text(RESULTS / "obs.md", obs_table.render(rows, missing))
    raw = {"rows": rows, "missing": missing, "costs": timed, "threads": torch.get_num_threads()}
    summary = obs_table.summary(rows) | {
        "seconds_to_score_256_pairs": round(max(row["seconds"] for row in timed), 2),
        "missing": missing,
    }
    record("obs", raw, summary, quick=options.quick)


if __name__ == "__main__":
    main()
