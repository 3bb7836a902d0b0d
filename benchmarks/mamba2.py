"""What a cut of the states of Mamba-2 costs, by every method: perplexity and recall, no training.

The model is the Mamba-2 that ships, ``--model`` takes another one that reads bytes. Half, three
quarters and seven eighths of its states go, calibrated on rows of Python sources, and in rows that
say so on texts of recall as well, with several seeds.

Measured is the increase of perplexity per byte on windows of other texts, with its standard error
over windows (of the mean over seeds); with ``--recall`` also the share of answers that it still
gives right of texts that ask what stood far back. The model that ships knows none of them:
`recall.py` has one that lives by it. Every row is kept as it is measured. Quick: a small model
that is trained here in few steps, two methods.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import math
import statistics
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from record import RESULTS, record
from ssmith import api, spine
from ssmith.core.budget import Budget
from ssmith.core.files import read_json, write_json, write_text
from ssmith.core.recall import RecallRows
from ssmith.core.seeds import generator
from ssmith.data import RECALL_TASKS, ByteTokenizer, recall_rows
from ssmith.evaluation.perplexity import window_losses
from ssmith.evaluation.recall import recall_of
from ssmith.families import model_digest
from ssmith.families.hf import new_language_model
from ssmith.families.hf.create import Mamba2Size
from ssmith.families.hf.engine import accelerate_
from ssmith.surgery import prune_
from trained import BASES, CACHE

PLACE = CACHE.parent / "mamba2"
MODEL, BYTES = "embedded:python-mamba2", "embedded:python-mamba"
"""The model, and one whose vocabulary, the 256 bytes, every model here shares."""
TEXTS = {"Python": "stdlib:", "prose": "pydoc:"}
RECALLED = {512: 64, 1024: 64, 4096: 16}
"""Texts of each task of recall, by their length in tokens."""
METHODS: dict[str, dict[str, Any]] = {
    "balanced truncation": {"method": "balanced"},
    "greedy, reading rows and output maps refitted": {},
    "greedy, output maps refitted": {"compensate": ("O",)},
    "greedy": {"method": "gram-greedy"},
    "energy at the output": {"method": "output-energy"},
    "GHOST": {"method": "ghost"},
    "UniQL": {"method": "uniql"},
    "state energy": {"method": "state-energy"},
    "magnitude": {"method": "magnitude"},
    "random": {"method": "random"},
}
STREAM = "greedy, output maps refitted to the dense stream"
MIXED = ", texts of recall among the rows"
ALL: dict[str, dict[str, Any]] = {**METHODS, STREAM: {"compensate": ("S",)}}
ALL |= {name + MIXED: METHODS[name] for name in ("balanced truncation", "GHOST")}
QUICK = ("balanced truncation", "GHOST")
SMALL = (
    "a byte-level Mamba-2 of width 128, 4 layers, 64 states, trained for minutes (read the ratios)"
)
SHARES = (0.5, 0.75, 0.875)
LENGTH, SAMPLES, HELD, BATCH, STEPS = 256, 32, 128, 8, 1200
"""Of a window, windows to calibrate on and to judge on, and of the training of small models."""


def small(width: int, layers: int) -> nn.Module:
    """Return a new model on the engine."""
    size = Mamba2Size(width=width, layers=layers, states=64, head_width=32)
    model = new_language_model(size, seed=0)
    accelerate_(model)
    return model


def trained_model(text: Any, place: Path, make: Callable[[], Any], steps: int) -> nn.Module:
    """Return the model that lies at a place, or train a new one."""
    if place.is_dir():
        return api.load(place)
    model = make()
    ids = text.sample(max(64, BATCH * steps // 4), LENGTH, seed=0).ids
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.05)
    draw = generator(0, "batches")
    for step in range(steps):
        share = step / steps
        for group in optimiser.param_groups:
            group["lr"] = 3e-3 * min(1.0, (step + 1) / 40) * 0.5 * (1 + math.cos(math.pi * share))
        batch = ids[torch.randint(len(ids), (BATCH,), generator=draw)]
        loss = model(input_ids=batch, labels=batch, use_cache=False).loss
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        if step % 50 == 0:
            print(f"step {step} of {steps}: {loss.item():.3f} nats", file=sys.stderr)
    model.eval()
    api.save(model, place)
    return model


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A dense model, the text it is calibrated on, windows of others, and its losses there."""

    dense: nn.Module
    source: Any
    held: dict[str, Any]
    base: dict[str, Tensor]
    asked: dict[str, RecallRows] = field(default_factory=dict)

    @classmethod
    def of(
        cls, dense: nn.Module, source: Any, like: Any, *, windows: int, asked: Any = None
    ) -> Subject:
        held = {
            name: api.load_text(spec, like).windows(LENGTH).spread(windows)
            for name, spec in TEXTS.items()
        }
        base = {name: window_losses(dense, own) for name, own in held.items()}
        return cls(dense=dense, source=source, held=held, base=base, asked=asked or {})

    def cut(self, budgets: Budget | list[Budget], windows: Any) -> nn.Module:
        """Return a copy of the dense model that budgets were taken from."""
        model = copy.deepcopy(self.dense)
        prune_(model, spine.plan(self.dense, budgets, windows))
        return model

    def lost(self, model: nn.Module) -> dict[str, list[float]]:
        """Return by text what a model loses in each window, in nats per byte."""
        return {
            text: ((window_losses(model, own) - self.base[text]) / LENGTH).tolist()
            for text, own in self.held.items()
        }

    def row(self, path: Path, budgets: list[Budget], windows: Any, about: dict[str, Any]) -> Any:
        """Return what a cut costs on every window; read where it was measured earlier."""
        if not path.is_file():
            model = self.cut(budgets, windows)
            lost = self.lost(model)
            dense = {text: float(own.mean()) / LENGTH for text, own in self.base.items()}
            row = {**about, "seed": budgets[0].seed, "lost": lost, "dense": dense}
            row["recall"] = self.recalled(model)
            row["parameters"] = sum(item.numel() for item in model.parameters())
            write_json(path, row)
            shown = {text: f"{100 * statistics.mean(item):.2f}" for text, item in lost.items()}
            print(f"{about}, seed {row['seed']}: {shown} %", file=sys.stderr)
        return read_json(path)

    def recalled(self, model: nn.Module) -> dict[str, float]:
        """Return the share of answers that a model gives right, by task and length."""
        return {name: item.value for name, item in recall_of(model, self.asked).items()}


def tasks(seeds: int, *, quick: bool) -> Iterator[tuple[str, float, int]]:
    """Yield method, share and calibration seed of every row."""
    for seed in range(seeds):
        for share in SHARES[1:2] if quick else SHARES:
            for method in QUICK if quick else ALL:
                yield method, share, seed


def asked(like: nn.Module) -> dict[str, RecallRows]:
    """Return texts of every task of recall at every length, with a seed that no training saw."""
    filler = api.load_text(TEXTS["Python"], like).split("test")
    return {
        f"{task}, {length:,}": recall_rows(
            task, ByteTokenizer(), filler, count=count, length=length, seed=1
        )
        for length, count in RECALLED.items()
        for task in RECALL_TASKS
    }


def mixed(windows: Any, source: Any, seed: int) -> Any:
    """Return windows of which the second half are texts of recall of the same length."""
    half = len(windows) // 2
    count = -(-half // len(RECALL_TASKS))
    made = [
        recall_rows(task, ByteTokenizer(), source.split("train"), count=count, length=LENGTH,
                    seed=100 + seed).ids
        for task in RECALL_TASKS
    ]  # fmt: skip
    ids = torch.cat([windows.ids[:half], torch.cat(made)[:half]])
    return dataclasses.replace(windows, ids=ids, text_bytes=None)


def wide(spec: str) -> nn.Module:
    """Return a model in float32: rounding to bfloat16 moves a loss as much as a small cut does."""
    model: nn.Module = api.load(spec)
    return model.float()


def dense_model(source: Any, options: argparse.Namespace) -> nn.Module:
    """Return the model that is asked for, or the small one."""
    if options.quick:
        return trained_model(source, PLACE / "quick-40", partial(small, 64, 2), 40)
    if options.model:
        return wide(options.model)
    return trained_model(source, BASES / "mamba2-128", partial(small, 128, 4), STEPS)


def measure(options: argparse.Namespace) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Return one row per method, share and seed, and what the model recalls before any cut."""
    torch.set_num_threads(options.threads)
    like = api.load(BYTES)
    source: Any = api.load_text(TEXTS["Python"], like)
    dense = dense_model(source, options)
    subject = Subject.of(
        dense,
        source,
        like,
        windows=8 if options.quick else HELD,
        asked=asked(like) if options.recall else {},
    )
    where = PLACE / f"{'quick-' * options.quick}{model_digest(dense)[:12]}"
    rows = []
    for method, share, seed in tasks(1 if options.quick else options.seeds, quick=options.quick):
        path = where / f"{method.replace(' ', '_')}-{share:g}-{seed}.json"
        if options.render and not path.is_file():
            continue
        budget = Budget("state", share, seed=seed, **ALL[method])
        windows = source.sample(8 if options.quick else SAMPLES, LENGTH, seed=seed)
        if method.endswith(MIXED):
            windows = mixed(windows, source, seed)
        rows.append(subject.row(path, [budget], windows, {"method": method, "share": share}))
    return rows, dense_recall(subject, where)


def dense_recall(subject: Subject, where: Path) -> dict[str, float]:
    """Return what the model before any cut recalls; read where it was measured earlier."""
    path = where / "dense.json"
    if not path.is_file():
        write_json(path, subject.recalled(subject.dense))
    found: dict[str, float] = read_json(path)
    return found


def increase(rows: list[dict[str, Any]], method: str, share: float, text: str) -> list[float]:
    """Return the increase of perplexity in per cent, and its standard error over windows."""
    own = [row["lost"][text] for row in rows if (row["method"], row["share"]) == (method, share)]
    if not own:
        return []
    means = torch.tensor(own, dtype=torch.float64).mean(0)
    mean, error = float(means.mean()), float(means.std()) / len(means) ** 0.5
    return [100 * math.expm1(mean), 100 * math.exp(mean) * error]


def row_of(name: str, cells: list[list[float]]) -> str:
    """Render a row of increases and their standard errors."""
    shown = [f"{cell[0]:.2f} ± {cell[1]:.2f}" if cell else "not measured" for cell in cells]
    return f"| {name} | " + " | ".join(shown) + " |"


def table(rows: list[dict[str, Any]], dense: dict[str, float], name: str) -> str:
    """Render the rows of a model as Markdown; ``dense`` is what it recalls before any cut."""
    seeds = sorted({row["seed"] for row in rows})
    nats = ", ".join(f"{value:.3f} on {name}" for name, value in rows[0]["dense"].items())
    lines = [
        f"Increase of perplexity per byte in per cent, ± standard error over {HELD} windows of "
        f"{LENGTH} bytes, of {name} (dense: {nats} nats per byte). Mean over calibration "
        f"seeds {seeds}, {SAMPLES} windows of Python each.",
    ]
    head = " | ".join(f"{share:.1%}" for share in SHARES)
    for text in TEXTS:
        lines += ["", f"| {text}: states removed | {head} |", "|---" * (1 + len(SHARES)) + "|"]
        for method in ALL:
            cells = [increase(rows, method, share, text) for share in SHARES]
            lines.append(row_of(method, cells))
    if not dense:
        return "\n".join(lines) + "\n"
    lines += [
        "",
        "What perplexity hides: answers given right, in per cent, of texts that ask what stood far "
        "back (a word to copy, 16 keys and values, a pass key), by the length in bytes; "
        "mean over the same seeds (least … largest).",
    ]
    for share in SHARES:
        lines += ["", f"| {share:.1%} of states removed | " + " | ".join(dense) + " |"]
        lines += ["|---" * (1 + len(dense)) + "|"]
        lines.append("| *dense* | " + " | ".join(f"{100 * v:.0f}" for v in dense.values()) + " |")
        for method in ALL:
            shown = " | ".join(recall_cell(rows, method, share, name) for name in dense)
            lines.append(f"| {method} | {shown} |")
    return "\n".join(lines) + "\n"


def recall_cell(rows: list[dict[str, Any]], method: str, share: float, name: str) -> str:
    """Render what is recalled after a cut: mean, least and largest over seeds."""
    own = [100 * row["recall"][name] for row in rows
           if (row["method"], row["share"]) == (method, share)]  # fmt: skip
    if not own:
        return "not measured"
    spread = f" ({min(own):.0f} … {max(own):.0f})" if max(own) - min(own) >= 1 else ""
    return f"{statistics.mean(own):.0f}{spread}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seeds", type=int, default=3, help="calibration seeds")
    parser.add_argument("--model", default=MODEL, help="a Mamba-2 that reads bytes")
    parser.add_argument("--recall", action="store_true", help="measure its recall, too")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--render", action="store_true", help="only from rows that are there")
    options = parser.parse_args()
    rows, dense = measure(options)
    if not options.quick:
        write_text(RESULTS / "mamba2.md", table(rows, dense, options.model))
    summary = {
        f"{method}, {share:g}, {text}": round(found[0], 3)
        for method in ALL
        for share in SHARES
        for text in TEXTS
        if (found := increase(rows, method, share, text))
    }
    for text in TEXTS:
        both = [found[0] for method in QUICK if (found := increase(rows, method, 0.75, text))]
        if len(both) < len(QUICK):
            continue
        summary[f"balanced against GHOST, 0.75, {text}"] = round(both[0] / both[1], 3)
    record(
        "mamba2",
        {"rows": rows, "recall": dense, "model": options.model},
        summary,
        quick=options.quick,
    )


if __name__ == "__main__":
    main()
