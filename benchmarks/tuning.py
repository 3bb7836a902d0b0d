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
import json
import shutil
import sys
import sysconfig
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mamba2 import BYTES, trained_model
from record import RESULTS, record
from ssmith import api
from ssmith.artefact import base_digest
from ssmith.core.files import read_json, write_json, write_text
from ssmith.core.seeds import generator
from ssmith.core.settings import from_mapping
from ssmith.families.hf import new_language_model
from ssmith.families.hf.create import MambaSize
from ssmith.families.hf.engine import accelerate_
from ssmith.jobs.tuning import TuneConfig, fine_tune
from ssmith.ops.native.allocator import tune_allocator_
from trained import BASES
from trained import CACHE as KEPT
from tuning_table import AUTO, AUTO_ANY, page, plot, summary

LORA_OFFICIAL = {"method": "lora", "targets": ["dt_proj", "x_proj"], "rank": 8}
LORA_OUT = {"method": "lora", "targets": ["out_proj"], "rank": 8}
LORA_ALL = {"method": "lora", "rank": 8}
HEAD_ONLY = "new head and encoder alone"
METHODS: dict[str, list[Any]] = {
    "state-offset (h)": ["state-offset-h"],
    "state-offset (y)": ["state-offset-y"],
    "state-offset (h) + (y)": ["state-offset-hy"],
    "state-offset (h), rank 8": ["state-offset-h-lowrank"],
    "state-offset (h) + LoRA out_proj": ["state-offset-h", LORA_OUT],
    "initial state": ["initial-state"],
    "additional scan": ["additional-scan"],
    "prompt, 16 tokens": [{"method": "prompt", "tokens": 16}],
    "prefix, 8 tokens": [{"method": "prefix", "tokens": 8}],
    "BitFit": ["bitfit"],
    "LoRA dt_proj, x_proj": [LORA_OFFICIAL],
    "LoRA out_proj": [LORA_OUT],
    "LoRA out_proj, Muon": [LORA_OUT],
    "state-offset (h), Muon": ["state-offset-h"],
    "state-offset (h), rank 8, Muon": ["state-offset-h-lowrank"],
    "core": ["core"],
    "core, Muon": ["core"],
    "core, as many numbers as LoRA out_proj": [{"method": "core", "rank": 39}],
    "core, as many numbers as LoRA all, Muon": [{"method": "core", "rank": 80}],
    "LoRA all": [LORA_ALL],
    "LoRA all, Muon": [LORA_ALL],
    "DoRA out_proj": [{**LORA_OUT, "method": "dora"}],
    "SDT + LoRA out_proj": [{"method": "sdt", "warmup_steps": 15}, LORA_OUT],
    "A_log, D, conv1d": [{"method": "parameters", "targets": ["A_log", "D", "conv1d"]}],
    "full, S6": ["full-ssm"],
    "full": ["full"],
    HEAD_ONLY: [{"method": "parameters", "targets": ["score", "encoder"]}],
    AUTO: ["auto"],
    AUTO_ANY: [{"method": "auto", "size": 1}],
}
LONG = (
    "state-offset (h), Muon",
    "LoRA out_proj, Muon",
    "core, as many numbers as LoRA all, Muon",
    "LoRA all",
    "LoRA all, Muon",
    "full",
    AUTO,
    AUTO_ANY,
)
"""What leads at its size, for runs of more steps."""
MUON = tuple(name for name in METHODS if name.endswith("Muon"))
RATES = (4e-5, 2e-4, 1e-3, 5e-3, 2.5e-2, 0.125, 0.625)
FIRST_RATE = 5e-3
SEEDS = (0, 1, 2)
STEPS = 48
LENGTHS = (STEPS, 200, 1000)
BATCH = 8
ROWS = {"train": 1600, "validation": 64, "test": 120}
CACHE = KEPT.parent / "tuning"
BASE, BASE_STEPS = BASES / "python-128", 1200


def headers() -> list[str]:
    """The C headers of the Python that runs, in pieces of about 250 bytes."""
    place = Path(sysconfig.get_paths()["include"])
    texts = [path.read_text(errors="replace") for path in sorted(place.rglob("*.h"))]
    pieces = []
    for text in texts:
        lines, held = text.splitlines(keepends=True), ""
        for line in lines:
            held += line
            if len(held.encode()) >= 250:
                pieces.append(held)
                held = ""
    return pieces


def prepared(name: str, lines: list[dict[str, Any]], groups: list[str]) -> Path:
    """Write a tuning file with few enough rows; rows of one group share a split."""
    order = list(dict.fromkeys(groups))
    draw = generator(0, "tuning", name)
    order = [order[i] for i in torch.randperm(len(order), generator=draw).tolist()]
    by_group: dict[str, list[dict[str, Any]]] = {}
    for line, group in zip(lines, groups, strict=True):
        by_group.setdefault(group, []).append(line)
    chosen: list[dict[str, Any]] = []
    for split, count in reversed(ROWS.items()):
        held = 0
        while order and held < count:
            for line in by_group[order.pop()][: 1 if split != "train" else None]:
                chosen.append({**line, "split": split})
                held += 1
    path = CACHE / f"{name}.jsonl"
    write_text(path, "".join(json.dumps(line) + "\n" for line in chosen))
    return path


def tasks(dart: Path | None) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    if dart is not None:
        lines = [json.loads(line) for line in dart.read_text().splitlines()]
        path = prepared("dart", lines, [line["prompt"] for line in lines])
        found["dart"] = {
            "data": str(path), "examples": {"length": 192},
            "generation": {"most": 160, "batch_size": 40},
        }  # fmt: skip
    pieces = headers()
    path = prepared("headers", [{"text": piece} for piece in pieces], pieces)
    found["C headers"] = {"data": str(path), "examples": {"length": 192}}
    found["vowels"] = {"data": "embedded:vowels"}
    return found


def config_of(task: dict[str, Any], name: str, how: tuple[float | None, int, int]) -> TuneConfig:
    rate, seed, steps = how
    method, optimizer = METHODS[name], "muon" if name in MUON else "adamw"
    optimizer = "auto" if rate is None else optimizer
    warm_up = sum(item.get("warmup_steps", 0) for item in method if isinstance(item, dict))
    left = max(1, steps - warm_up)
    training = {
        "rate": rate, "seed": seed, "steps": left, "evaluate_every": max(1, left // 4),
        "batch_size": BATCH, "schedule": "linear", "warmup": 0.1, "optimizer": optimizer,
    }  # fmt: skip
    written = task.get("generation") if steps > STEPS else None
    alone = {"train_head": False, "allow_partial": True} if name == HEAD_ONLY else {}
    content = {**task, **alone, "generation": written, "methods": method, "training": training}
    return from_mapping(TuneConfig, content, where="task")


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
    that hold rows of all of them.
    """

    def __init__(self, place: Path, base: str, steps: int, stored: Sequence[Path]) -> None:
        self.place, self.of = place, {"base": base, "steps": steps}
        rows = [row for path in stored if path.is_file() for row in read_json(path)["rows"]]
        for path in sorted(place.glob("*.json")) if place.is_dir() else ():
            rows += read_json(path)
        alike = [row for row in rows if row["base"] == base]
        self.shorter = [row for row in alike if row["steps"] < steps]
        own = [row for row in alike if row["steps"] == steps]
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
    """Return the best rate of the most steps below these, where there is one."""
    of = {"task": task, "method": method, "seed": SEEDS[0]}
    named = [row for row in store.shorter if row.items() >= of.items() and row["rate"]]
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


def fill(model: str, chosen: dict[str, Any], store: Store, *, quick: bool, until: float) -> None:
    """Measure all that the store lacks: first every method's rates, then seed after seed."""

    def once(task: str, method: str, rate: float | None, seed: int) -> dict[str, Any]:
        key = {"task": task, "method": method, "rate": rate, "seed": seed}
        known = store.find(**key)
        if known is not None:
            return known
        if time.perf_counter() > until:
            raise TimeUpError
        config = config_of(chosen[task], method, (rate, seed, store.of["steps"]))
        row = store.add({**key, **run(model, config)})
        print(*key.values(), row["validation"], file=sys.stderr, flush=True)
        return row

    rates: dict[tuple[str, str], float | None] = {}
    for task in chosen:
        for method in searched(task, store.of["steps"], quick=quick):
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
            for method in methods_for(task, store.of["steps"], quick=quick):
                if method not in MUON:
                    once(task, method, None, seed)


def methods_for(task: str, steps: int, *, quick: bool) -> list[str]:
    """Return the methods of a task: only a new head can be trained alone."""
    names = [name for name in METHODS if name != HEAD_ONLY or task == "vowels"]
    if steps > STEPS:
        names = [name for name in names if name in LONG]
    return names[:2] if quick else names


def searched(task: str, steps: int, *, quick: bool) -> list[str]:
    """Return the methods whose rate is searched for."""
    return [name for name in methods_for(task, steps, quick=quick) if name not in (AUTO, AUTO_ANY)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--model", help="another byte-level Mamba as the base")
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
    place = CACHE / ("rows-quick" if options.quick else f"rows-{steps}")
    if options.quick:
        shutil.rmtree(place, ignore_errors=True)
    name = stored_as(steps)
    part = RESULTS / f"{name}_part.json"
    store = Store(place, base_digest(api.load(model)), steps, [] if options.quick else results())
    if options.part:
        write_json(part, {"about": "rows of a table that is not complete", "rows": store.rows})
        return
    if not options.render:
        until = time.perf_counter() + options.seconds
        try:
            chosen = tasks(options.dart)
            chosen = {name: chosen[name] for name in options.task or chosen}
            fill(model, chosen, store, quick=options.quick, until=until)
        except TimeUpError:
            print("time is up; start again to go on", file=sys.stderr)
            return
    with_dart = options.dart is not None or store.find(task="dart") is not None
    about = about_run(model, store, with_dart=with_dart)
    if not options.quick:
        part.unlink(missing_ok=True)
        write_text(RESULTS / f"{name}.md", page(store.rows, about))
        plot(store.rows, RESULTS, name)
    raw = {"about": about, "rows": store.rows}
    record(name, raw, summary(store.rows), quick=options.quick)


def stored_as(steps: int) -> str:
    """Return the name of the results of runs of so many steps."""
    return "tuning" if steps <= STEPS else f"tuning_{steps}"


def results() -> list[Path]:
    """Return where rows are stored, whole tables and parts."""
    names = map(stored_as, LENGTHS)
    return [RESULTS / f"{name}{end}.json" for name in names for end in ("", "_part")]


def base_model(*, quick: bool) -> str:
    """Return where the base lies, trained if it was not yet."""
    steps, width, layers = (40, 32, 2) if quick else (BASE_STEPS, 128, 4)
    place = CACHE / "base-quick" if quick else BASE

    def new() -> nn.Module:
        model = new_language_model(MambaSize(width=width, layers=layers), seed=0)
        accelerate_(model)
        return model

    trained_model(api.load_text("stdlib:", api.load(BYTES)), place, new, steps)
    return str(place)


def about_run(model: str, store: Store, *, with_dart: bool) -> dict[str, Any]:
    """Return what a reader must know of all runs."""
    shape = read_json(Path(model) / "config.json")
    names = ["dart"] * with_dart + ["C headers", "vowels"]
    return {
        **store.of,
        "base": (
            f"a byte-level Mamba of width {shape['hidden_size']}, {shape['num_hidden_layers']} "
            f"layers, {shape['state_size']} states, digest {store.of['base'][:12]}"
        ),
        "digest": store.of["base"],
        "batch": BATCH,
        "seeds": len(SEEDS),
        "methods": {task: methods_for(task, store.of["steps"], quick=False) for task in names},
    }


if __name__ == "__main__":
    main()
