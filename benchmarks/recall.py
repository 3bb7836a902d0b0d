"""What cuts of the states of Mamba-2 take of a memory that is full: exact associative recall.

Language needs little of the state, and perplexity shows little of what a cut takes from it. A
Mamba-2 of two layers (width 64, 4 heads of 32, 64 states) is trained here on associative recall
alone: up to 20 random keys with their values, then 8 of the keys, each of which its value must
follow. Then half, three quarters and seven eighths of its states go, by every method, calibrated on
texts of the task with several seeds; measured is the share of values given right, on texts that
neither saw. The model lies in ``bases``; one of other steps is trained and kept in ``.cache``.
Quick: few training steps and two methods.
"""

from __future__ import annotations

import argparse
import copy
import math
import statistics
import sys
from typing import Any

import torch
from torch import nn

from mamba2 import METHODS, QUICK, SHARES
from record import RESULTS, record
from ssmith import api, spine
from ssmith.core.budget import Budget
from ssmith.core.files import write_text
from ssmith.core.recall import RecallRows
from ssmith.core.seeds import generator
from ssmith.evaluation.recall import RECALL_TASK
from ssmith.families.hf import accelerate_, new_language_model
from ssmith.families.hf.create import Mamba2Size
from ssmith.surgery import prune_
from trained import BASES, CACHE

BASE, BASE_STEPS = BASES / "recall-64", 8000
SIZE = Mamba2Size(width=64, layers=2, states=64, head_width=32)
PAIRS, QUERIES, KEYS = 20, 8, 128
BATCH, RATE = 64, 3e-3
TEST, CALIBRATION = 512, 256


def texts(count: int, draw: torch.Generator, pairs: int = PAIRS) -> RecallRows:
    """Draw texts: keys with their values, then some of the keys again, in another order."""
    keys = torch.rand(count, KEYS, generator=draw).argsort(1)[:, :pairs]
    values = KEYS + torch.randint(KEYS, (count, pairs), generator=draw)
    again = torch.rand(count, pairs, generator=draw).argsort(1)[:, :QUERIES]
    shown = torch.stack([keys, values], 2).flatten(1)
    asked = torch.stack([keys.gather(1, again), values.gather(1, again)], 2).flatten(1)
    ids = torch.cat([shown, asked], 1)
    marks = torch.zeros_like(ids)
    marks[:, shown.shape[1] + 1 :: 2] = torch.arange(1, again.shape[1] + 1)
    return RecallRows(
        ids=ids,
        answers=marks,
        lengths=torch.full((count,), ids.shape[1]),
        scored_from=torch.full((count,), shown.shape[1] + 1),
        text_bytes=None,
        vocabulary=256,
        name="associative recall",
    )


def trained_model(steps: int) -> nn.Module:
    """Train the model on the task, or open the one that was trained."""
    place = BASE if steps == BASE_STEPS else CACHE.parent / "recall" / f"model-{steps}"
    if place.is_dir():
        return api.load(place)
    model = new_language_model(SIZE, seed=0)
    engine = accelerate_(model)
    optimiser = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.01)
    draw = generator(0, "texts to train on")
    for step in range(steps):
        for group in optimiser.param_groups:
            share = min(1.0, (step + 1) / 100)
            group["lr"] = RATE * share * 0.5 * (1 + math.cos(math.pi * step / steps))
        # Few pairs are learned first, and many follow from them.
        few = int(torch.randint(2, PAIRS + 1, (1,), generator=draw))
        pairs = few if step < steps // 4 or step % 2 else PAIRS
        rows = texts(BATCH, draw, pairs)
        labels = torch.where(rows.answers > 0, rows.ids, -100)
        loss = model(input_ids=rows.ids, labels=labels, use_cache=False).loss
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        if step % 200 == 0:
            print(f"step {step} of {steps}: {loss.item():.3f} nats", file=sys.stderr, flush=True)
    del engine
    model.eval()
    api.save(model, place)
    return model


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Return what is recalled by the dense model, and after each cut."""
    torch.set_num_threads(1)
    dense = trained_model(60 if options.quick else options.steps)
    test = texts(TEST, generator(0, "texts to test on"))
    rows = []
    for seed in range(1 if options.quick else options.seeds):
        calibration = texts(CALIBRATION, generator(seed, "texts to calibrate on"))
        for share in SHARES[:1] if options.quick else SHARES:
            for method in QUICK if options.quick else METHODS:
                model = copy.deepcopy(dense)
                budget = Budget("state", share, seed=seed, **METHODS[method])
                prune_(model, spine.plan(dense, budget, calibration))
                found = api.evaluate(model, test, RECALL_TASK).value
                rows.append({"method": method, "share": share, "seed": seed, "recall": found})
                print(f"{method}, {share:g}, seed {seed}: {found:.3f}", file=sys.stderr, flush=True)
    return {"rows": rows, "dense": api.evaluate(dense, test, RECALL_TASK).value}


def cell(rows: list[dict[str, Any]], method: str, share: float) -> list[float]:
    """Return mean, least and largest share recalled over seeds, in per cent."""
    own = [100 * row["recall"] for row in rows if (row["method"], row["share"]) == (method, share)]
    return [statistics.mean(own), min(own), max(own)] if own else []


def table(raw: dict[str, Any]) -> str:
    """Render the rows as Markdown."""
    seeds = sorted({row["seed"] for row in raw["rows"]})
    head = " | ".join(f"{share:.1%}" for share in SHARES)
    lines = [
        f"Values given right, in per cent, of {PAIRS} keys and values of which {QUERIES} are asked "
        f"({TEST} texts), by a Mamba-2 of two layers, width 64, 64 states, trained on it alone; "
        f"dense: {100 * raw['dense']:.1f}. Mean (least … largest) over calibration seeds {seeds}.",
        "",
        f"| states removed | {head} |",
        "|---" * (1 + len(SHARES)) + "|",
    ]
    for method in METHODS:
        cells = [cell(raw["rows"], method, share) for share in SHARES]
        shown = [f"{mean:.1f} ({least:.1f} … {most:.1f})" for mean, least, most in cells]
        lines.append(f"| {method} | " + " | ".join(shown) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seeds", type=int, default=3, help="calibration seeds")
    parser.add_argument("--steps", type=int, default=BASE_STEPS, help="training steps")
    options = parser.parse_args()
    raw = measure(options)
    summary = {"dense": round(raw["dense"], 4)} | {
        f"{method}, {share:g}": round(found[0], 1)
        for method in METHODS
        for share in SHARES
        if (found := cell(raw["rows"], method, share))
    }
    record("recall", raw, summary, quick=options.quick)
    if not options.quick:
        write_text(RESULTS / "recall.md", table(raw))


if __name__ == "__main__":
    main()
