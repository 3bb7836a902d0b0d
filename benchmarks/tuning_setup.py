"""Tasks, methods and bases of the tuning benchmark."""

from __future__ import annotations

import json
import math
import sysconfig
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mamba2 import BYTES, trained_model
from ssmith import api
from ssmith.core.files import write_text
from ssmith.core.seeds import generator
from ssmith.core.settings import from_mapping
from ssmith.families.hf import new_language_model
from ssmith.families.hf.create import MambaSize
from ssmith.families.hf.engine import accelerate_
from ssmith.jobs.tuning import TuneConfig
from ssmith.tune.adapters import from_plain
from ssmith.tune.adapters.survey import Survey
from trained import BASES
from trained import CACHE as KEPT
from tuning_table import AUTO, AUTO_ANY

LORA_OFFICIAL = {"method": "lora", "targets": ["dt_proj", "x_proj"], "rank": 8}
LORA_OUT = {"method": "lora", "targets": ["out_proj"], "rank": 8}
LORA_ALL = {"method": "lora", "rank": 8}
HEAD_ONLY = "new head and encoder alone"
WIDE = "core, as many numbers as LoRA all, Muon"
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
    WIDE: [{"method": "core", "rank": 80}],
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
    WIDE,
    "LoRA all",
    "LoRA all, Muon",
    "full",
    AUTO,
    AUTO_ANY,
)
"""What leads at its size, for runs of more steps and larger bases."""
MUON = tuple(name for name in METHODS if name.endswith("Muon"))
STEPS = 48
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


def named(model: str) -> str:
    """Return what another base is called in names of results."""
    return model.removeprefix("embedded:").replace("/", "-")


def fitted(model: str) -> dict[str, list[Any]]:
    """Return all methods, with a core that trains as many numbers as LoRA does on this base."""
    survey = Survey.of(api.load(model))

    def stored(method: dict[str, Any]) -> int:
        return from_plain(method).stored(survey)

    # A core of rank r stores r² for each map, and bases in proportion to r.
    one, two = (stored({"method": "core", "rank": rank}) for rank in (1, 2))
    rank = round(math.sqrt(stored(LORA_ALL) / (two / 2 - one)))
    return METHODS | {WIDE: [{"method": "core", "rank": rank}]}


def config_of(
    task: dict[str, Any],
    name: str,
    method: list[Any],
    how: tuple[float | None, int, int],
) -> TuneConfig:
    """Return a run's settings; a rate of None leaves rate and optimiser to ssmith."""
    rate, seed, steps = how
    optimizer = "muon" if name in MUON else "adamw"
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


def methods_for(task: str, *, leading: bool, quick: bool = False) -> list[str]:
    """Return the methods of a task: only a new head can be trained alone."""
    names = [name for name in METHODS if name != HEAD_ONLY or task == "vowels"]
    if leading:
        names = [name for name in names if name in LONG]
    return names[:2] if quick else names


def searched(names: list[str]) -> list[str]:
    """Return the methods whose rate is searched for."""
    return [name for name in names if name not in (AUTO, AUTO_ANY)]
