"""Outside of text: speech, images, sensors and a forecast, cut and tuned onto a shifted domain.

Each task is a recipe of recipes/domains/, whose data packages carry: what is not installed is named
with how to get it, and nothing is measured without all of it. For three training seeds: the dense
model beside plain methods on simple features, the model with 30 to 90 % of its states removed and
nothing trained again, and the whole model tuned on few rows of another domain (other voices,
another scanner, the other wrist, another season). Every tuning method gets the same steps and
the same six rates on the first seed, of which the validation split chooses. Nothing is chosen on
test rows.

What is measured is kept, and a killed run goes on there. Quick: one small task made on the fly.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import domain_table
import ssmith as sm
from domain_quick import write_tones
from domain_rivals import rivals
from record import RESULTS, record
from ssmith.core.files import read_json, write_json, write_text
from ssmith.core.preparation import Preparation
from ssmith.core.sequences import SequenceData, Sequences
from ssmith.core.settings import from_mapping
from ssmith.evaluation import predict
from ssmith.families import SequenceModel
from ssmith.jobs.source import Calibration
from ssmith.jobs.train import Recipe, TrainingRows, rows_for, save_trained, train
from ssmith.jobs.tuning import TuneConfig
from ssmith.jobs.tuning.learning import Lesson, learn_
from ssmith.jobs.tuning.training_set import training_set
from ssmith.ops.native.allocator import tune_allocator_
from ssmith.tune.adapters import attach_
from ssmith.tune.training import rows_of
from tuning import best_rate

ROOT = Path(__file__).resolve().parents[1]
RECIPES, CACHE = ROOT / "recipes" / "domains", ROOT / ".cache" / "domains"
SEEDS = (0, 1, 2)
RATIOS = (0.3, 0.5, 0.7, 0.9)
CRITERIA = ("state-obs", "last", "magnitude-global", "random")
HEAD = {"method": "parameters", "targets": ["head"]}
METHODS: dict[str, list[Any]] = {
    "state-offset (y)": ["state-offset-y"],
    "state-offset (y) + head": ["state-offset-y", HEAD],
    "initial state": ["initial-state"],
    "BitFit": ["bitfit"],
    "head": [HEAD],
    "LoRA": ["lora"],
    "LoRA + head": ["lora", HEAD],
    "full, state spaces": ["full-ssm"],
    "full": ["full"],
}
RATES = (1e-3, 5e-3, 2.5e-2, 0.125, 0.625, 3.125)
STEPS, BATCH, ROWS = 100, 32, {"train": 256, "validation": 128}
Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Domain:
    """A task, and where it goes.

    Args:
        recipe: name of the recipe.
        program: of recipes/domains/, which lays out its data.
        target: data of the shifted domain.
        tuned: whether it is tuned; false where another recipe has the same data.
    """

    recipe: str
    program: str
    target: str
    tuned: bool = True


DOMAINS = (
    Domain(recipe="speech", program="speech", target="speech/others"),
    Domain(recipe="images", program="images", target="images/optical"),
    Domain(recipe="rows", program="images", target="images/optical", tuned=False),
    Domain(recipe="sensors", program="sensors", target="sensors/left.csv"),
    Domain(recipe="demand", program="demand", target="demand/summer.csv"),
)
QUICK = Domain(recipe="tones", program="", target="tones/others")


class Kept:
    """Rows measured so far of one task; each new one is written at once."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.rows: list[Row] = read_json(path) if path and path.is_file() else []

    def once(self, key: Row, measure: Callable[[], Row]) -> Row:
        known = next((row for row in self.rows if row.items() >= key.items()), None)
        if known is not None:
            return known
        began = time.process_time()
        row = {**key, **measure()}
        row["cpu_seconds"] = round(time.process_time() - began, 2)
        self.rows.append(row)
        if self.path:
            write_json(self.path, self.rows)
        print(*row.values(), file=sys.stderr, flush=True)
        return row


class Task:
    """One domain with its data, models and rows."""

    def __init__(self, domain: Domain, place: Path, recipe: Recipe, *, keep: bool) -> None:
        self.domain, self.place, self.recipe = domain, place, recipe
        digest = hashlib.sha256(recipe.to_json().encode()).hexdigest()[:10]
        self.models = place / "models" / f"{domain.recipe}-{digest}"
        self.kept = Kept(place / "cells" / f"{domain.recipe}-{digest}.json" if keep else None)
        found = rows_for(replace(recipe, data=str(place / str(recipe.data))))
        assert found.preparation is not None
        self.source: SequenceData = found.data
        self.preparation: Preparation = found.preparation
        self.read: TrainingRows = found

    def once(self, kind: str, measure: Callable[[], Row], **key: Any) -> Row:
        return self.kept.once({"kind": kind, "task": self.domain.recipe, **key}, measure)

    def model(self, seed: int) -> SequenceModel:
        """Return the dense model of a seed, training it if it was not trained yet."""
        path = self.models / str(seed)
        if not path.is_dir():
            save_trained(train(self.recipe, seed=seed, rows=self.read), path)
        return sm.load(path)

    def value(self, model: torch.nn.Module, part: Sequences) -> float:
        return value_of(model, part, self.preparation)


def value_of(model: torch.nn.Module, part: Sequences, preparation: Preparation | None) -> float:
    """Return the accuracy, or the mean absolute error in the target's own units."""
    outputs = predict(model, part)
    if preparation is None or not preparation.targets:
        return float((outputs.argmax(1) == part.y).double().mean())
    said, truth = (
        preparation.targets_back(item.reshape(len(part), -1).numpy()) for item in (outputs, part.y)
    )
    return float(np.abs(said - truth).mean())


def measure_dense(task: Task, target: SequenceData, seeds: tuple[int, ...]) -> None:
    """Measure dense models and plain methods on both domains."""
    tests = {"source": task.source.split("test"), "target": target.split("test")}
    for seed in seeds:
        task.once(
            "dense",
            lambda seed=seed: {  # type: ignore[misc]
                name: task.value(task.model(seed), part) for name, part in tests.items()
            },
            seed=seed,
        )
    few = {name: spread(target.split(name), count) for name, count in ROWS.items()}
    for where, learned in (("source", task.source.splits), ("target", few)):
        task.once(
            "plain",
            lambda learned=learned: {  # type: ignore[misc]
                "reached": rivals(learned["train"], learned["validation"], tests, task.preparation)
            },
            learned=where,
        )


def measure_cuts(task: Task, seeds: tuple[int, ...]) -> None:
    """Measure models without some of their states, on the domain they know."""
    test, part = task.source.split("test"), Calibration().draw(task.source)
    for seed in seeds:
        model = task.model(seed)
        for method in CRITERIA:
            for ratio in RATIOS:

                def cut(model: Any = model, method: str = method, ratio: float = ratio) -> Row:
                    shrunk = copy.deepcopy(model)
                    sm.prune_(
                        shrunk, sm.plan(model, sm.Budget("state", ratio, method=method), part)
                    )
                    return {"value": task.value(shrunk, test)}

                task.once("cut", cut, seed=seed, method=method, ratio=ratio)


def measure_tuning(task: Task, target: SequenceData, seeds: tuple[int, ...], steps: int) -> None:
    """Measure every method's rates on the first seed, then its best one on the others."""
    rates = RATES if len(seeds) > 1 else RATES[1:2]
    lesson = lesson_of(task, target, seeds[0], steps)

    def once(method: str, rate: float, seed: int) -> Row:
        def measure() -> Row:
            return tuned(task, target, (method, rate, seed), lesson)

        return task.once("tuned", measure, seed=seed, method=method, rate=rate, steps=steps)

    for method in METHODS:
        tried = {rate: once(method, rate, seeds[0]) for rate in rates}
        best = best_rate(tried)
        for seed in seeds[1:] if best is not None else ():
            once(method, best, seed)


def lesson_of(task: Task, target: SequenceData, seed: int, steps: int) -> Lesson:
    """Return what is learned: few rows of the target."""
    plain = {
        "methods": ["lora"], "data": str(task.place / task.domain.target),
        "training": {
            "steps": steps, "batch_size": BATCH, "warmup": 0.1,
            "evaluate_every": max(1, steps // 5), "optimizer": "adamw",
        },
    }  # fmt: skip
    config = from_mapping(TuneConfig, plain, where="tuning")
    found = training_set(task.model(seed), config)
    few = {name: rows_of(spread(target.split(name), count)) for name, count in ROWS.items()}
    return Lesson(data=replace(found, rows=few), training=config.training)


def spread(part: Sequences, count: int) -> Sequences:
    """Return at most so many rows, evenly spread over all."""
    few = min(count, len(part))
    return part.take(torch.arange(few) * len(part) // few)


def tuned(task: Task, target: SequenceData, how: tuple[str, float, int], lesson: Lesson) -> Row:
    """Tune a dense model on the target, and measure it on both domains."""
    method, rate, seed = how
    model = task.model(seed)
    config = from_mapping(TuneConfig, {"methods": METHODS[method], "data": "-"}, where="methods")
    report = attach_(model, config.methods, name="adapted", allow_partial=True, seed=seed)
    training = replace(lesson.training, rate=rate, seed=seed)
    try:
        done, _ = learn_(model, "adapted", replace(lesson, training=training))
    except ArithmeticError as error:
        return {"failed": str(error), "validation": None, "score": None}
    model.eval()
    best = next(look for look in done.looks if look.step == done.best_step)
    return {
        "validation": best.validation,
        "score": list(best.score),
        "parameters": report.parameters,
        "target": task.value(model, target.split("test")),
        "source": task.value(model, task.source.split("test")),
    }


def laid_out(domains: tuple[Domain, ...]) -> None:
    """Lay out the data of all domains; end with how to get what is not there."""
    lacks = []
    for program in dict.fromkeys(domain.program for domain in domains):
        if (CACHE / program).is_dir():
            continue
        command = [sys.executable, str(RECIPES / f"{program}.py"), "--out", str(CACHE / program)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            lacks.append(f"{program}: {done.stderr.strip()}")
    if lacks:
        raise SystemExit("Data is missing, and nothing was measured.\n" + "\n".join(lacks))


def size(model: torch.nn.Module) -> int:
    return sum(item.numel() for item in model.parameters())


def measured(task: Task, seeds: tuple[int, ...], steps: int) -> list[Row]:
    """Measure what is not kept of one task; return all of it."""
    for seed in seeds:
        task.once("trained", lambda seed=seed: {"parameters": size(task.model(seed))}, seed=seed)
    target = sm.load_data(task.place / task.domain.target, task.model(seeds[0]))
    measure_dense(task, target, seeds)
    measure_cuts(task, seeds)
    if task.domain.tuned:
        measure_tuning(task, target, seeds, steps)
    return task.kept.rows


def quick_task() -> Task:
    """Make a small task on the fly."""
    place = write_tones(CACHE / "quick")
    return Task(QUICK, place, Recipe.load(place / "tones.json"), keep=False)


def full_tasks(chosen: tuple[Domain, ...]) -> Iterator[Task]:
    """Lay out the data of some domains, and yield their tasks."""
    laid_out(chosen)
    for domain in chosen:
        recipe = Recipe.load(RECIPES / f"{domain.recipe}.json")
        yield Task(domain, CACHE, recipe, keep=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--tasks", default="", help="names of recipes; all if empty")
    options = parser.parse_args()
    torch.set_num_threads(1)
    tune_allocator_()
    if options.quick:
        rows = measured(quick_task(), SEEDS[:1], 20)
        record("domains", {"rows": rows}, domain_table.summary(rows), quick=True)
        return
    named = options.tasks.split(",") if options.tasks else [item.recipe for item in DOMAINS]
    chosen = tuple(item for item in DOMAINS if item.recipe in named)
    rows = [row for task in full_tasks(chosen) for row in measured(task, SEEDS, STEPS)]
    if len(chosen) == len(DOMAINS):
        write_text(RESULTS / "domains.md", domain_table.table(rows))
        record("domains", {"rows": rows}, domain_table.summary(rows), quick=False)


if __name__ == "__main__":
    main()
