"""What each tuning method gains: real tasks, one budget for all, several seeds.

The base is a byte-level Mamba (width 128, 4 layers, 16 states) that is trained here on the sources
of Python's standard library and lies in ``bases``; ``--model`` takes another. Tasks: sentences
from triples (DART, where ``--dart FILE`` names a file converted by recipes/data/dart.py), the C
headers of the Python that runs (another language than the base was trained on), and a
classification of real series (embedded:vowels) with a new head and encoder.

Every method gets the same steps and the same search for its learning rate, on the validation split
with the first seed: from 5e-3 on, or from the best rate of fewer steps, the neighbours of the best
rate so far, a factor of five apart, are tried until both are worse. Then all seeds at its best
rate, and once more as ``ssmith tune`` does when nobody names rate or optimiser; ``auto`` also
chooses the method, one that stores at most a quarter of the base's numbers or any. Nothing is
chosen on the test split. Longer runs (``--steps``) are of the methods that lead, with tables of
their own, and judge what they write for DART. What is stored is not measured again, a run that is
stopped goes on row by row, elsewhere after ``--part``; ``--render`` shows what there is. Quick: a
smaller base, 4 steps, two methods, one rate.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from record import RESULTS, record
from ssmith import api
from ssmith.artefact import base_digest
from ssmith.core.files import read_json, write_json, write_text
from ssmith.jobs.tuning import TuneConfig, fine_tune
from ssmith.ops.native.allocator import tune_allocator_
from tuning_setup import (
    BATCH,
    CACHE,
    MUON,
    STEPS,
    base_model,
    config_of,
    fitted,
    methods_for,
    named,
    searched,
    tasks,
)
from tuning_table import page, plot, summary

RATES = (4e-5, 2e-4, 1e-3, 5e-3, 2.5e-2, 0.125, 0.625)
FIRST_RATE = 5e-3
SEEDS = (0, 1, 2)
LENGTHS = (STEPS, 200, 1000)
OTHERS = ("python-mamba", "python-mamba2")
"""Larger bases that ship."""


def run(model: str, config: TuneConfig) -> dict[str, Any]:
    """One run: what validation says of its best step, and what the test split says."""
    start = time.process_time()
    try:
        done = fine_tune(model, config)
    except ArithmeticError as error:
        return {"failed": str(error), "validation": None, "score": None, "test": None}
    answers = done.quality.answers
    best = next(x for x in done.training.looks if x.step == done.training.best_step)
    return {
        "validation": best.validation,
        "score": list(best.score),
        "test": {
            name: {
                side: value.value
                for side, value in (("before", found.before), ("after", found.after))
                if value is not None
            }
            for name, found in done.quality.measures.items()
        },
        "answers": answers and {**answers.metrics, "unended": answers.unended / answers.count},
        "parameters": done.report.parameters,
        "stored": done.report.stored,
        "chosen": None if done.choice is None else done.choice.method,
        "share": done.report.share,
        "cpu_seconds": time.process_time() - start,
    }


class TimeUpError(Exception):
    """The time for this start is over; the next one goes on."""


class Store:
    """Rows measured so far of one base and number of steps; each new one is written at once.

    Each task has a file of its own, so that processes can share the tasks; ``stored`` are results
    that hold rows of all of them. ``hints`` say where to look for a method's rate: rows of fewer
    steps, or of another base where there are none.
    """

    def __init__(self, place: Path, base: str, steps: int, stored: Sequence[Path]) -> None:
        self.place, self.of = place, {"base": base, "steps": steps}
        rows = [row for path in stored if path.is_file() for row in read_json(path)["rows"]]
        for path in sorted(place.glob("*.json")) if place.is_dir() else ():
            rows += read_json(path)
        alike = [row for row in rows if row["base"] == base]
        own = [row for row in alike if row["steps"] == steps]
        shorter = [row for row in alike if row["steps"] < steps]
        self.hints = shorter or [r for r in rows if r["base"] != base and r["steps"] <= steps]
        self.rows: list[dict[str, Any]] = [*{self.key(row): row for row in own}.values()]

    @staticmethod
    def key(row: dict[str, Any]) -> tuple[Any, ...]:
        """Return what was measured."""
        return tuple(row[name] for name in ("task", "method", "rate", "seed"))

    def find(self, **key: Any) -> dict[str, Any] | None:
        return next((row for row in self.rows if row.items() >= key.items()), None)

    def add(self, row: dict[str, Any]) -> dict[str, Any]:
        self.rows.append({**self.of, **row})
        own = [item for item in self.rows if item["task"] == row["task"]]
        write_json(self.place / f"{row['task'].lower().replace(' ', '-')}.json", own)
        return self.rows[-1]


def first_rate(store: Store, task: str, method: str) -> float:
    """Return the best rate of the most steps that are known, where there is one."""
    of = {"task": task, "method": method, "seed": SEEDS[0]}
    named = [row for row in store.hints if row.items() >= of.items() and row["rate"]]
    most = max((row["steps"] for row in named), default=0)
    return best_rate({row["rate"]: row for row in named if row["steps"] == most}) or FIRST_RATE


def next_rate(tried: dict[float, dict[str, Any]]) -> float | None:
    """Return the rate to try after those tried; None once the best lies between worse ones."""
    best = best_rate(tried)
    # Where every run failed, the rate was too high.
    place = RATES.index(min(tried) if best is None else best)
    beside = [RATES[i] for i in (place + 1, place - 1) if 0 <= i < len(RATES)]
    return next((rate for rate in beside if rate not in tried), None)


def best_rate(tried: dict[float, dict[str, Any]]) -> float | None:
    """Return the rate that validates best; None if every run failed."""
    fine = {rate: row for rate, row in tried.items() if row["validation"] is not None}
    return max(fine, key=lambda rate: tuple(fine[rate]["score"]), default=None)


def fill(
    model: str,
    chosen: dict[str, Any],
    methods: dict[str, list[str]],
    store: Store,
    *,
    quick: bool,
    until: float,
) -> None:
    """Measure all that the store lacks: first every method's rates, then seed after seed."""
    settings = fitted(model)

    def once(task: str, method: str, rate: float | None, seed: int) -> dict[str, Any]:
        key = {"task": task, "method": method, "rate": rate, "seed": seed}
        known = store.find(**key)
        if known is not None:
            return known
        if time.perf_counter() > until:
            raise TimeUpError
        how = (rate, seed, store.of["steps"])
        config = config_of(chosen[task], method, settings[method], how)
        row = store.add({**key, **run(model, config)})
        print(*key.values(), row["validation"], file=sys.stderr, flush=True)
        return row

    rates: dict[tuple[str, str], float | None] = {}
    for task in chosen:
        for method in searched(methods[task]):
            tried: dict[float, dict[str, Any]] = {}
            rate: float | None = first_rate(store, task, method)
            while rate is not None:
                tried[rate] = once(task, method, rate, SEEDS[0])
                rate = None if quick else next_rate(tried)
            rates[task, method] = best_rate(tried)
    for seed in SEEDS[1:] if not quick else ():
        for (task, method), rate in rates.items():
            if rate is not None:
                once(task, method, rate, seed)
    for seed in SEEDS[: 1 if quick else None]:
        for task in chosen:
            for method in methods[task]:
                if method not in MUON:
                    once(task, method, None, seed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--model", help=f"another base: embedded:{OTHERS[0]}, …")
    parser.add_argument("--dart", type=Path, help="converted DART file; left out if not given")
    parser.add_argument("--steps", type=int, choices=LENGTHS, default=STEPS)
    parser.add_argument("--task", action="append", help="measure this one only; may be repeated")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after a while")
    parser.add_argument("--render", action="store_true", help="show what is measured so far")
    parser.add_argument(
        "--part", action="store_true", help="store what is measured so far, to go on elsewhere"
    )
    options = parser.parse_args()
    tune_allocator_()
    model = options.model or base_model(quick=options.quick)
    torch.set_num_threads(1)
    steps = 4 if options.quick else options.steps
    other = named(options.model) if options.model else ""
    name = stored_as(steps, other)
    place = CACHE / ("rows-quick" if options.quick else name.replace("tuning", "rows"))
    if options.quick:
        shutil.rmtree(place, ignore_errors=True)
    part = RESULTS / f"{name}_part.json"
    known = [] if options.quick else results(other)
    store = Store(place, base_digest(api.load(model)), steps, known)
    leading = bool(other) or steps > STEPS
    if options.part:
        write_json(part, {"about": "rows of a table that is not complete", "rows": store.rows})
        return
    if not options.render:
        until = time.perf_counter() + options.seconds
        try:
            chosen = tasks(options.dart)
            chosen = {task: chosen[task] for task in options.task or chosen}
            methods = {t: methods_for(t, leading=leading, quick=options.quick) for t in chosen}
            fill(model, chosen, methods, store, quick=options.quick, until=until)
        except TimeUpError:
            print("time is up; start again to go on", file=sys.stderr)
            return
    with_dart = options.dart is not None or store.find(task="dart") is not None
    about = about_run(model, store, leading=leading, with_dart=with_dart)
    if not options.quick:
        part.unlink(missing_ok=True)
        write_text(RESULTS / f"{name}.md", page(store.rows, about))
        plot(store.rows, RESULTS, name)
    raw = {"about": about, "rows": store.rows}
    record(name, raw, summary(store.rows), quick=options.quick)


def stored_as(steps: int, other: str = "") -> str:
    """Return the name of the results of runs of so many steps, of the usual base or another."""
    base = f"tuning_{other}" if other else "tuning"
    return base if steps <= STEPS else f"{base}_{steps}"


def results(other: str = "") -> list[Path]:
    """Return where rows are stored, whole tables and parts: of the usual base and another."""
    names = [stored_as(steps, base) for base in dict.fromkeys(("", other)) for steps in LENGTHS]
    return [RESULTS / f"{name}{end}.json" for name in names for end in ("", "_part")]


def about_run(model: str, store: Store, *, leading: bool, with_dart: bool) -> dict[str, Any]:
    """Return what a reader must know of all runs."""
    loaded: Any = api.load(model)
    shape = loaded.config
    names = ["dart"] * with_dart + ["C headers", "vowels"]
    kind = {"mamba": "Mamba", "mamba2": "Mamba-2"}[shape.model_type]
    return {
        **store.of,
        "base": (
            f"a byte-level {kind} of width {shape.hidden_size}, {shape.num_hidden_layers} "
            f"layers, {shape.state_size} states, digest {store.of['base'][:12]}"
        ),
        "digest": store.of["base"],
        "batch": BATCH,
        "seeds": len(SEEDS),
        "methods": {task: methods_for(task, leading=leading) for task in names},
    }


if __name__ == "__main__":
    main()
