"""Cutting with and without refits: what each part gains, over tasks, ratios and training seeds.

Full: all reference tasks, five ratios and five training seeds, on the test split, the ratios that
matter most first; what is done of a task and a seed is kept under .cache/, so a killed run goes on
where it was. Quick: the shipped models, two ratios, fewer sequences. Refits see training sequences
only. ``auto`` is chosen on the selection split, as the pilot does; nothing is on the test split.
"""

from __future__ import annotations

import argparse
import copy
import sys
import time
from dataclasses import dataclass
from typing import Any

import torch

import obs_table
from obs_tuned import HANKEL, LONGER, TUNED, reducible, split, tuned
from record import RESULTS, record
from ssmith import api
from ssmith.artefact import EMBEDDED
from ssmith.core.budget import Budget
from ssmith.core.errors import SsmithError
from ssmith.core.files import read_json, write_json, write_text
from ssmith.core.sequences import Sequences
from ssmith.evaluation import TASKS, predict
from ssmith.families import SequenceModel
from ssmith.jobs.pilot.cut import CANDIDATES
from ssmith.jobs.source import Calibration
from ssmith.ops.native.allocator import tune_allocator_
from ssmith.spine.lti import StatePlanner, method_of
from trained import CACHE, location, names, recipe_of, trained

RATIOS = (0.3, 0.5, 0.7, 0.8, 0.9)
DEEP = (0.8, 0.9)
TUNED_ONES = (f"state-obs{TUNED}", f"balanced{TUNED}")
METHODS = (
    "last",
    "aire",
    "state-obs+none",
    "last+readout",
    "aire+readout",
    "state-obs+once",
    "state-obs+readout",
    "state-obs",
    "balanced",
)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """What is measured of every task and seed before anything of the next stage is."""

    methods: tuple[str, ...]
    ratios: tuple[float, ...]
    tasks: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)

    def ratios_of(self, cell: Cell, spec: str) -> set[float]:
        """Return the ratios at which a method is wanted of a cell."""
        wanted = spec in self.methods and cell.seed in self.seeds
        return set(self.ratios) if wanted and cell.name in (self.tasks or names()) else set()


BY_COST = ("power-s4d", "vowels-s5", "digits-s5", "listops-s5", "leaf-s4d", "plaid-s5")
STAGES = (
    Stage(methods=("last", "aire", "state-obs", "balanced"), ratios=DEEP),
    Stage(methods=(*TUNED_ONES, f"state-obs{LONGER}"), ratios=(0.9,)),
    Stage(methods=("state-obs+readout",), ratios=DEEP),
    Stage(
        methods=("state-obs+none", "last+readout", "aire+readout", "state-obs+once"),
        ratios=DEEP,
    ),
    Stage(
        methods=("state-obs+measured",), ratios=DEEP, tasks=("digits-s5", "vowels-s5"),
        seeds=(0, 1, 2),
    ),
    Stage(
        methods=("hankel+state-obs",), ratios=(0.9,),
        tasks=("digits-s5", "power-s4d", "vowels-s5"), seeds=(0, 1, 2),
    ),
    Stage(methods=tuple(spec for spec in METHODS if spec != "balanced"), ratios=(0.3, 0.5, 0.7)),
)  # fmt: skip
CELLS = CACHE.parent / "obs"
Row = dict[str, Any]


class Cell:
    """One trained model: what is measured of it, and the file it is kept in."""

    def __init__(self, name: str, seed: int, *, quick: bool) -> None:
        self.name, self.seed, self.quick = name, seed, quick
        self.path = CELLS / f"{location(name, seed).parent.name}-{seed}.json"
        there = not quick and self.path.exists()
        self.rows: list[Row] = read_json(self.path) if there else []

    def missing(self, stage: Stage, specs: list[str], given: set[float]) -> dict[str, list[float]]:
        """Return the ratios of each method of a stage that no earlier run has left."""
        done = {(row["method"], row["ratio"]) for row in self.rows}
        wanted = {
            spec: sorted(
                ratio
                for ratio in stage.ratios_of(self, spec) & given
                if (label_of(spec), ratio) not in done
            )
            for spec in specs
        }
        return {spec: rest for spec, rest in wanted.items() if rest}

    def measure(self, stage: Stage, specs: list[str], given: set[float]) -> None:
        """Measure what is missing of a stage; what is done is kept after every method."""
        todo = self.missing(stage, specs, given)
        if not todo:
            return
        began = time.process_time()
        model = api.load(f"{EMBEDDED}{self.name}") if self.quick else trained(self.name, self.seed)
        data = api.load_data(recipe_of(self.name).data, model)
        test, part = data.split("test"), Calibration().draw(data)
        test = test.first(200) if self.quick else test
        if not self.rows:
            self.rows.append(self._row("dense", 0.0) | {"hits": outcomes(model, test)})
        for spec, rest in todo.items():
            base, training = split(spec)
            start = reducible(self.name, self.seed, model) if spec.startswith(HANKEL) else model
            planner = StatePlanner(start, method_of(budget_of(base), has_data=True), part)
            for ratio in rest:
                row, begin = self._row(label_of(spec), ratio), time.process_time()
                try:
                    plan = planner.plan(budget_of(base, ratio))
                    shrunk = copy.deepcopy(start)
                    done = api.prune_(shrunk, plan)
                except SsmithError as error:
                    self.rows.append(row | {"why": error.what})
                    continue
                row["cpu_seconds"] = round(time.process_time() - begin, 2)
                if training:
                    shrunk, row["epoch"] = tuned(shrunk, self.name, self.seed, training)
                if spec in CANDIDATES or training:
                    row["selection"] = outcomes(shrunk, data.split("selection"))
                self.rows.append(
                    row
                    | {
                        "removed": plan.cut("state").sparsity,
                        "findings": [item["kind"] for item in done.findings],
                        "hits": outcomes(shrunk, test),
                    }
                )
            if not self.quick:
                write_json(self.path, self.rows)
        took = time.process_time() - began
        print(f"{self.name}, seed {self.seed}, {' '.join(todo)}: {took:.1f} s", file=sys.stderr)

    def _row(self, method: str, ratio: float) -> Row:
        return {"task": self.name, "seed": self.seed, "method": method, "ratio": ratio}


def outcomes(model: SequenceModel, test: Sequences) -> str:
    """Return one digit per sequence: whether the model is right."""
    hits = TASKS["accuracy"].of_outputs(predict(model, test), test.y).numerator
    return "".join(str(int(hit)) for hit in hits)


def budget_of(base: str, ratio: float = 0.5) -> Budget:
    """Return what a name with how it is compensated, or shared out, asks for."""
    method, _, how = base.partition("+")
    if how == "measured":
        return Budget("state", ratio, method=method, scope="measured")
    return Budget("state", ratio, method=method, compensate=how or "auto")


def label_of(spec: str) -> str:
    """Return how the tables call a method."""
    base, training = split(spec)
    label = method_of(budget_of(base), has_data=True).label
    if spec.startswith(HANKEL):
        return f"Hankel regularisation, {label}"
    kinds = {"": "", TUNED: " + short fine-tune", LONGER: " + fine-tune twice as long"}
    return label + kinds[training]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seeds", default="0,1,2,3,4", help="training seeds, full run only")
    parser.add_argument("--tasks", default="", help="names of reference models; all if empty")
    parser.add_argument("--methods", default="", help="what to measure; all if empty")
    parser.add_argument("--ratios", default="", help="at which ratios; all if empty")
    parser.add_argument("--measure-only", action="store_true", help="leave the tables as they are")
    parser.add_argument("--render-only", action="store_true", help="measure nothing more")
    options = parser.parse_args()
    torch.set_num_threads(1)
    # Moments of long sequences take and free large tensors all the time.
    tune_allocator_()
    stages = (Stage(methods=METHODS, ratios=DEEP),) if options.quick else STAGES
    seeds = [0] if options.quick else [int(item) for item in options.seeds.split(",")]
    shipped = list(BY_COST[:2] if options.quick else BY_COST)
    tasks = options.tasks.split(",") if options.tasks else shipped
    cells = [Cell(name, seed, quick=options.quick) for seed in seeds for name in tasks]
    given = {float(item) for item in options.ratios.split(",") if item} or set(RATIOS)
    specs = [item for item in options.methods.split(",") if item]
    for stage in stages:
        for item in cells:
            if not options.render_only:
                item.measure(stage, specs or list(stage.methods), given)
    if not options.measure_only:
        finish(cells, stages, quick=options.quick)


def finish(cells: list[Cell], stages: tuple[Stage, ...], *, quick: bool) -> None:
    """Write tables and raw results of all that is measured, and say what is not."""
    rows = [row for item in cells for row in item.rows]
    missing = [
        f"{item.name} seed {item.seed}: {label_of(spec)} at "
        + ", ".join(f"{ratio:g}" for ratio in rest)
        for stage in stages
        for item in cells
        for spec, rest in item.missing(stage, list(stage.methods), set(RATIOS)).items()
    ]
    order = [label_of(spec) for spec in CANDIDATES]
    rows += obs_table.chosen(rows, order, obs_table.AUTO)
    rows += obs_table.chosen(rows, [label_of(spec) for spec in TUNED_ONES], obs_table.AUTO_TUNED)
    if not quick:
        write_text(RESULTS / "obs.md", obs_table.render(rows, missing, order))
    summary = obs_table.summary(rows) | {"not_measured": len(missing)}
    record("obs", {"rows": rows, "missing": missing}, summary, quick=quick)


if __name__ == "__main__":
    main()
