"""What a cut of the states of Mamba-2 costs, by every method: perplexity on two texts, no training.

A byte-level Mamba-2 (width 128, 4 layers, 8 heads of 32, 64 states) is trained here on the sources
of Python's standard library and kept in ``.cache``; then half, three quarters and seven eighths of
its states go, calibrated on windows of the text it was trained on, with several seeds. Measured is
the increase of perplexity per byte on other windows, and its standard error over windows (of the
mean over seeds). Every row is kept as it is measured. Quick: a smaller model, few steps, two
methods.
"""

from __future__ import annotations

import argparse
import copy
import math
import statistics
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from record import RESULTS, record
from ssmith import api, spine
from ssmith.core.budget import Budget
from ssmith.core.files import read_json, write_json, write_text
from ssmith.core.optional import require
from ssmith.core.seeds import generator
from ssmith.evaluation.perplexity import window_losses
from ssmith.families.hf.engine import accelerate_
from ssmith.surgery import prune_
from trained import CACHE

PLACE = CACHE.parent / "mamba2"
BYTES = "embedded:python-mamba"
"""Whose vocabulary, the 256 bytes, the model shares."""
TEXTS = {"Python": "stdlib:", "prose": "pydoc:"}
METHODS = {
    "balanced truncation": {"method": "balanced"},
    "greedy, output maps refitted": {},
    "greedy, reading rows and output maps refitted": {"compensate": ("C", "O")},
    "greedy": {"method": "gram-greedy"},
    "energy at the output": {"method": "output-energy"},
    "GHOST": {"method": "ghost"},
    "UniQL": {"method": "uniql"},
    "state energy": {"method": "state-energy"},
    "magnitude": {"method": "magnitude"},
    "random": {"method": "random"},
}
QUICK = ("balanced truncation", "GHOST")
SHARES = (0.5, 0.75, 0.875)
LENGTH, SAMPLES, HELD, BATCH = 256, 32, 128, 8


def built(*, groups: int, quick: bool) -> Any:
    """Return a new model on the engine."""
    transformers = require("transformers", extra="hf", purpose="a Mamba-2 to train")
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "num_hidden_layers": 2} if quick else {
        "hidden_size": 128, "num_hidden_layers": 4}  # fmt: skip
    width = sizes["hidden_size"]
    config = transformers.Mamba2Config(
        vocab_size=256, state_size=64, head_dim=32, num_heads=2 * width // 32, n_groups=groups,
        chunk_size=64, pad_token_id=0, bos_token_id=0, eos_token_id=0, **sizes,
    )  # fmt: skip
    model = transformers.Mamba2ForCausalLM(config)
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

    @classmethod
    def of(cls, dense: nn.Module, source: Any, like: Any, *, windows: int) -> Subject:
        held = {
            name: api.load_text(spec, like).windows(LENGTH).spread(windows)
            for name, spec in TEXTS.items()
        }
        base = {name: window_losses(dense, own) for name, own in held.items()}
        return cls(dense=dense, source=source, held=held, base=base)

    def row(self, path: Path, budget: Budget, samples: int, about: dict[str, Any]) -> Any:
        """Return what a cut costs on every window; read where it was measured earlier."""
        if not path.is_file():
            model = copy.deepcopy(self.dense)
            windows = self.source.sample(samples, LENGTH, seed=budget.seed)
            prune_(model, spine.plan(self.dense, budget, windows))
            lost = {
                text: ((window_losses(model, own) - self.base[text]) / LENGTH).tolist()
                for text, own in self.held.items()
            }
            dense = {text: float(own.mean()) / LENGTH for text, own in self.base.items()}
            row = {**about, "seed": budget.seed, "lost": lost, "dense": dense}
            write_json(path, row)
            shown = {text: f"{100 * statistics.mean(item):.2f}" for text, item in lost.items()}
            print(f"{about}, seed {budget.seed}: {shown} %", file=sys.stderr)
        return read_json(path)


def tasks(seeds: int, *, quick: bool) -> Iterator[tuple[str, float, int]]:
    """Yield method, share and calibration seed of every row."""
    for seed in range(seeds):
        for share in SHARES[1:2] if quick else SHARES:
            for method in QUICK if quick else METHODS:
                yield method, share, seed


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return one row per method, share, seed and text."""
    torch.set_num_threads(1)
    like = api.load(BYTES)
    steps = 40 if options.quick else options.steps
    source = api.load_text(TEXTS["Python"], like)
    place = PLACE / f"model-g{options.groups}{'-quick' * options.quick}-{steps}"
    make = partial(built, groups=options.groups, quick=options.quick)
    dense = trained_model(source, place, make, steps)
    subject = Subject.of(dense, source, like, windows=8 if options.quick else HELD)
    rows = []
    for method, share, seed in tasks(1 if options.quick else options.seeds, quick=options.quick):
        name = f"g{options.groups}-{steps}-{method.replace(' ', '_')}-{share:g}-{seed}.json"
        path = PLACE / f"{'quick-' * options.quick}{name}"
        if options.render and not path.is_file():
            continue
        budget = Budget("state", share, seed=seed, **METHODS[method])
        count = 8 if options.quick else SAMPLES
        rows.append(subject.row(path, budget, count, {"method": method, "share": share}))
    return rows


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


def table(rows: list[dict[str, Any]], groups: int) -> str:
    """Render the rows as Markdown."""
    seeds = sorted({row["seed"] for row in rows})
    dense = ", ".join(f"{value:.3f} on {name}" for name, value in rows[0]["dense"].items())
    lines = [
        f"Increase of perplexity per byte in per cent, ± standard error over {HELD} windows of "
        f"{LENGTH} bytes, of a byte-level Mamba-2 (width 128, 4 layers, 64 states, {groups} "
        f"group{'s' * (groups > 1)}; dense: {dense} nats per byte). Mean over calibration seeds "
        f"{seeds}, {SAMPLES} windows of Python each. One small model that was trained for "
        "minutes: read the ratios.",
    ]
    for text in TEXTS:
        lines += [
            "",
            f"| {text}: states removed | " + " | ".join(f"{s:.1%}" for s in SHARES) + " |",
        ]
        lines.append("|---" * (1 + len(SHARES)) + "|")
        for method in METHODS:
            cells = [increase(rows, method, share, text) for share in SHARES]
            lines.append(row_of(method, cells))
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seeds", type=int, default=3, help="calibration seeds")
    parser.add_argument("--steps", type=int, default=1200, help="training steps")
    parser.add_argument("--groups", type=int, default=1, help="groups of heads")
    parser.add_argument("--render", action="store_true", help="only from rows that are there")
    options = parser.parse_args()
    rows = measure(options)
    if not options.quick:
        write_text(RESULTS / "mamba2.md", table(rows, options.groups))
    summary = {
        f"{method}, {share:g}, {text}": round(found[0], 3)
        for method in METHODS
        for share in SHARES
        for text in TEXTS
        if (found := increase(rows, method, share, text))
    }
    for text in TEXTS:
        both = [found[0] for method in QUICK if (found := increase(rows, method, 0.75, text))]
        if len(both) < len(QUICK):
            continue
        summary[f"balanced against GHOST, 0.75, {text}"] = round(both[0] / both[1], 3)
    record("mamba2", {"rows": rows}, summary, quick=options.quick)


if __name__ == "__main__":
    main()
