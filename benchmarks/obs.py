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
from typing import Any

import torch

import obs_table
from record import RESULTS, record
from ssmith import api
from ssmith.artefact import EMBEDDED, embedded_names
from ssmith.core.budget import Budget
from ssmith.core.errors import SsmithError
from ssmith.core.files import read_json, write_json, write_text
from ssmith.core.sequences import Sequences
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
Row = dict[str, Any]


class Cell:
    """One trained model: what is measured of it, and the file it is kept in."""

    def __init__(self, name: str, seed: int, *, quick: bool) -> None:
        self.name, self.seed, self.quick = name, seed, quick
        self.path = CELLS / f"{location(name, seed).parent.name}-{seed}.json"
        there = not quick and self.path.exists()
        self.rows: list[Row] = read_json(self.path) if there else []

    def missing(self, methods: list[str], ratios: list[float]) -> dict[str, list[float]]:
        """Return the ratios of each method that no earlier run has left."""
        done = {(row["method"], row["ratio"]) for row in self.rows}
        wanted = {
            spec: [
                ratio
                for ratio in ratios
                if ratio >= COSTLY.get(spec, 0.0) and (method_named(spec).label, ratio) not in done
            ]
            for spec in methods
        }
        return {spec: rest for spec, rest in wanted.items() if rest}

    def measure(self, methods: list[str], ratios: list[float]) -> None:
        """Measure what is missing; what is done is kept after every method."""
        todo = self.missing(methods, ratios)
        if not todo:
            return
        start = time.perf_counter()
        model = api.load(f"{EMBEDDED}{self.name}") if self.quick else trained(self.name, self.seed)
        data = api.load_data(recipe_of(self.name).data, model)
        test, part = data.split("test"), calibration(data)
        test = test.first(200) if self.quick else test
        if not self.rows:
            self.rows.append(self._row("dense", 0.0) | {"hits": outcomes(model, test)})
        for spec, rest in todo.items():
            method = method_named(spec)
            prepared = method.prepare(model, part)
            for ratio in rest:
                row = self._row(method.label, ratio)
                begin = time.perf_counter()
                try:
                    plan, found = method.decide(model, prepared, Budget(states=ratio), part)
                    shrunk = copy.deepcopy(model)
                    done = api.prune_(shrunk, plan, compensation=found)
                except SsmithError as error:
                    self.rows.append(row | {"why": error.what})
                    continue
                self.rows.append(
                    row
                    | {
                        "removed": plan.removed_fraction,
                        "seconds": round(time.perf_counter() - begin, 2),
                        "findings": [item["kind"] for item in done.findings],
                        "hits": outcomes(shrunk, test),
                    }
                )
            if not self.quick:
                write_json(self.path, self.rows)
        took = time.perf_counter() - start
        print(f"{self.name}, seed {self.seed}: {took:.0f} s", file=sys.stderr)

    def _row(self, method: str, ratio: float) -> Row:
        return {"task": self.name, "seed": self.seed, "method": method, "ratio": ratio}


def outcomes(model: SequenceModel, test: Sequences) -> str:
    """Return one digit per sequence: whether the model is right."""
    hits = ACCURACY.per_sequence(predict(model, test), test.y)
    return "".join(str(int(hit)) for hit in hits)


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seeds", default="0,1,2,3,4", help="training seeds, full run only")
    parser.add_argument("--tasks", default="", help="names of reference models; all if empty")
    parser.add_argument("--methods", default=",".join(METHODS), help="what to measure")
    parser.add_argument("--ratios", default="", help="at which ratios; all if empty")
    parser.add_argument("--measure-only", action="store_true", help="leave the tables as they are")
    parser.add_argument("--render-only", action="store_true", help="measure nothing more")
    options = parser.parse_args()
    torch.set_num_threads(1)
    usual = QUICK_RATIOS if options.quick else RATIOS
    ratios = [float(item) for item in options.ratios.split(",") if item] or list(usual)
    seeds = [0] if options.quick else [int(item) for item in options.seeds.split(",")]
    shipped = list(embedded_names()) if options.quick else names()
    tasks = options.tasks.split(",") if options.tasks else shipped
    cells = [Cell(name, seed, quick=options.quick) for seed in seeds for name in tasks]
    for item in cells:
        if not options.render_only:
            item.measure(options.methods.split(","), ratios)
    if options.measure_only:
        return
    finish(cells, quick=options.quick)


def finish(cells: list[Cell], *, quick: bool) -> None:
    """Write tables and raw results of all that is measured, and say what is not."""
    rows = [row for item in cells for row in item.rows]
    whole = list(QUICK_RATIOS if quick else RATIOS)
    missing = [
        f"{item.name} seed {item.seed}: {method_named(spec).label} at "
        + ", ".join(f"{ratio:g}" for ratio in rest)
        for item in cells
        for spec, rest in item.missing(list(METHODS), whole).items()
    ]
    timed = costs()
    if not quick:
        write_text(RESULTS / "obs.md", obs_table.render(rows, missing))
    raw = {"rows": rows, "missing": missing, "costs": timed, "threads": torch.get_num_threads()}
    summary = obs_table.summary(rows) | {
        "seconds_to_score_256_pairs": round(max(row["seconds"] for row in timed), 2),
        "not_measured": len(missing),
    }
    record("obs", raw, summary, quick=quick)


if __name__ == "__main__":
    main()
