"""What each tuning method gains: real tasks, one budget for all, several seeds; and what it costs.

The base is a byte-level Mamba trained on Python sources (``--model``). Tasks: sentences from
triples (DART, where ``--dart FILE`` names a file converted by recipes/data/dart.py), the C headers
of the Python that runs (another language than the base was trained on), and a classification of
real series (embedded:vowels) with a new head and encoder. Every method gets the same steps, and
the same learning rates tried on the validation split with the first seed; then all seeds at its
best rate. Nothing is chosen on the test split. A run that is stopped goes on row by row.
``--costs`` measures step time and peak memory of each method instead; run it on an idle machine.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from record import RESULTS, record
from ssmith import api
from ssmith.core.files import read_json, write_json, write_text
from ssmith.core.seeds import generator
from ssmith.jobs.tuning import TuneConfig, fine_tune
from ssmith.ops.native.allocator import tune_allocator_
from ssmith.tune.adapters import attach_
from tune import peak_of, ratio, stepper, timed

LORA_OFFICIAL = {"method": "lora", "targets": ["dt_proj", "x_proj"], "rank": 8}
LORA_OUT = {"method": "lora", "targets": ["out_proj"], "rank": 8}
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
    "LoRA all": [{"method": "lora", "rank": 8}],
    "DoRA out_proj": [{**LORA_OUT, "method": "dora"}],
    "SDT + LoRA out_proj": [{"method": "sdt", "warmup_steps": 15}, LORA_OUT],
    "A_log, D, conv1d": [{"method": "parameters", "targets": ["A_log", "D", "conv1d"]}],
    "full, S6": ["full-ssm"],
    "full": ["full"],
}
RATES = (1e-3, 5e-3, 2.5e-2)
SEEDS = (0, 1, 2)
ROWS = {"train": 1600, "validation": 64, "test": 120}
CACHE = Path(__file__).resolve().parents[1] / ".cache" / "tuning"


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
        found["dart"] = {"data": str(path), "examples": {"length": 192}}
    pieces = headers()
    path = prepared("headers", [{"text": piece} for piece in pieces], pieces)
    found["C headers"] = {"data": str(path), "examples": {"length": 192}}
    found["vowels"] = {"data": "embedded:vowels"}
    return found


def config_of(task: dict[str, Any], method: list[Any], how: tuple[float, int, int]) -> TuneConfig:
    rate, seed, steps = how
    warm_up = sum(item.get("warmup_steps", 0) for item in method if isinstance(item, dict))
    left = max(1, steps - warm_up)
    training = {
        "rate": rate, "seed": seed, "steps": left, "evaluate_every": max(1, left // 4),
        "batch_size": 8, "schedule": "linear", "warmup": 0.1,
    }  # fmt: skip
    return TuneConfig.from_dict({**task, "methods": method, "training": training})


def run(model: str, config: TuneConfig) -> dict[str, Any]:
    """One run: what validation says of its best step, and what the test split says."""
    start = time.perf_counter()
    try:
        done = fine_tune(model, config)
    except ArithmeticError as error:
        return {"failed": str(error), "validation": None, "test": None}
    test = {k: v for k, v in done.receipt.quality.items() if isinstance(v, dict)}
    best = next(x for x in done.training.looks if x["step"] == done.training.best_step)
    return {
        "validation": best["validation"],
        "score": best["score"],
        "test": {
            name: {side: found[side]["value"] for side in ("before", "after") if side in found}
            for name, found in test.items()
        },
        "parameters": done.report.parameters,
        "share": done.report.share,
        "seconds": time.perf_counter() - start,
    }


class TimeUpError(Exception):
    """The time for this start is over; the next one goes on."""


def fill(
    model: str, chosen: dict[str, Any], store: Path, *, steps: int, quick: bool, until: float
) -> list[Any]:
    """Return all rows, those of an earlier start taken from the store."""
    rows: list[dict[str, Any]] = read_json(store) if store.exists() else []
    known = {(row["task"], row["method"], row["rate"], row["seed"]): row for row in rows}
    rates, seeds = (RATES[1:2], SEEDS[:1]) if quick else (RATES, SEEDS)
    methods = dict(list(METHODS.items())[:3]) if quick else METHODS

    def once(task: str, method: str, rate: float, seed: int) -> dict[str, Any]:
        key = (task, method, rate, seed)
        if key not in known:
            if time.perf_counter() > until:
                raise TimeUpError
            config = config_of(chosen[task], methods[method], (rate, seed, steps))
            found = run(model, config)
            known[key] = {"task": task, "method": method, "rate": rate, "seed": seed, **found}
            rows.append(known[key])
            write_json(store, rows)
            print(task, method, rate, seed, found["validation"], file=sys.stderr, flush=True)
        return known[key]

    for task in chosen:
        for method in methods:
            tried = [once(task, method, rate, seeds[0]) for rate in rates]
            fine = [row for row in tried if row["validation"] is not None]
            if not fine:
                continue
            best = max(fine, key=lambda row: tuple(row["score"]))
            for seed in seeds:
                once(task, method, best["rate"], seed)["chosen"] = True
    write_json(store, rows)
    return rows


def table(rows: list[dict[str, Any]], steps: int, costs: dict[str, Any]) -> str:
    """Render the chosen rows as Markdown, best first."""
    lines = [
        f"Each method: {steps} steps of 8 rows, linear decay, the rates "
        f"{', '.join(f'{rate:g}' for rate in RATES)} tried on validation with seed {SEEDS[0]}, "
        f"then seeds {list(SEEDS)} at the best. Test: mean (smallest … largest). C headers and "
        "dart: bits per byte of what is learned, lower is better; vowels: accuracy in percent, "
        "head and encoder trained along. A rate in **bold** is at the end of what was tried."
    ]
    for task in dict.fromkeys(row["task"] for row in rows):
        own = [row for row in rows if row["task"] == task and row.get("chosen")]
        labels = "accuracy" in own[0]["test"]
        found = {}
        for row in own:
            value = row["test"]["accuracy" if labels else "loss"]["after"]
            found.setdefault(row["method"], []).append(
                100 * value if labels else value / torch.log(torch.tensor(2.0)).item()
            )
        before = own[0]["test"]["loss"].get("before")
        lines += ["", f"### {task}", ""]
        if before is not None:
            lines += [f"Untuned: {before / 0.6931471805599453:.3f}.", ""]
        lines += ["| method | trained | share | rate | test |", "|---|---|---|---|---|"]
        order = sorted(found, key=lambda name: statistics.mean(found[name]), reverse=labels)
        for name in order:
            row = next(item for item in own if item["method"] == name)
            values = found[name]
            edge = "**" if row["rate"] in (RATES[0], RATES[-1]) else ""
            spread = f"{statistics.mean(values):.3f} ({min(values):.3f} … {max(values):.3f})"
            lines.append(
                f"| {name} | {row['parameters']:,} | {row['share']:.2%} | "
                f"{edge}{row['rate']:g}{edge} | {spread} |"
            )
    if costs:
        lines += ["", "### What a step costs", "", costs["note"], ""]
        lines += ["| method | time | peak memory |", "|---|---|---|"]
        for name, row in costs["rows"].items():
            lines.append(f"| {name} | {row['time']:.3f} | {row['peak']:.3f} |")
    return "\n".join(lines) + "\n"


def adapted(model: str, name: str) -> nn.Module:
    loaded = api.load(model)
    attach_(loaded, TuneConfig.from_dict({"methods": METHODS[name], "data": "-"}).methods)
    return loaded


def costs_of(model: str) -> dict[str, Any]:
    """Return each method's step time and peak memory as multiples of LoRA's on dt_proj, x_proj."""
    against = "LoRA dt_proj, x_proj"
    steps = {name: stepper(adapted(model, name), batch=8, length=256) for name in METHODS}
    times: dict[str, list[float]] = {name: [] for name in METHODS}
    for _ in range(9):
        for name, step in steps.items():
            times[name].append(timed(step))
    peaks = {}
    for name in METHODS:
        command = [sys.executable, __file__, "--model", model, "--peak-of", name]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks[name] = int(done.stdout.splitlines()[-1])
    note = f"As a multiple of {against}; batch 8 of 256 bytes, median of nine, models in turn."
    rows = {
        name: {"time": ratio(times, name, against), "peak": peaks[name] / peaks[against]}
        for name in METHODS
    }
    return {"note": note, "rows": rows, "seconds": times, "bytes": peaks}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--model", default=".cache/small/model", help="byte-level language model")
    parser.add_argument("--dart", type=Path, help="converted DART file; left out if not given")
    parser.add_argument("--steps", type=int, default=48)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after a while")
    parser.add_argument("--costs", action="store_true", help="measure step time and memory only")
    parser.add_argument("--peak-of", choices=tuple(METHODS))
    options = parser.parse_args()
    tune_allocator_()
    if options.peak_of:
        step = stepper(adapted(options.model, options.peak_of), batch=8, length=256)
        print(peak_of(step))
        return
    if options.costs:
        write_json(CACHE / "costs.json", costs_of(options.model))
        return
    torch.set_num_threads(1)
    steps = 4 if options.quick else options.steps
    store = CACHE / ("rows-quick.json" if options.quick else "rows.json")
    if options.quick:
        store.unlink(missing_ok=True)
    until = time.perf_counter() + options.seconds
    chosen = tasks(options.dart)
    try:
        rows = fill(options.model, chosen, store, steps=steps, quick=options.quick, until=until)
    except TimeUpError:
        print("time is up; start again to go on", file=sys.stderr)
        return
    known = CACHE / "costs.json"
    costs = read_json(known) if known.exists() else {}
    if not options.quick:
        write_text(RESULTS / "tuning.md", table(rows, steps, costs))
    best = {}
    for task in dict.fromkeys(row["task"] for row in rows):
        own = [row for row in rows if row["task"] == task and row.get("chosen")]
        name = "accuracy" if "accuracy" in own[0]["test"] else "loss"
        means = {
            method: round(
                statistics.mean(r["test"][name]["after"] for r in own if r["method"] == method), 4
            )
            for method in dict.fromkeys(row["method"] for row in own)
        }
        best[task] = {"metric": name, **means}
    record("tuning", {"rows": rows, "costs": costs}, best, quick=options.quick)


if __name__ == "__main__":
    main()
