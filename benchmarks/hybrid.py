"""What cuts of a hybrid cost by every method: neurons, heads, attention, blocks; no training.

A byte-level hybrid (Bamba: Mamba-2 mixers, one layer of attention, feed-forward in every block;
width 128, 4 layers) is trained here on the sources of Python's standard library and kept in
``.cache``; then a share of one kind of unit goes, calibrated on windows of that text, with several
seeds. Measured is the increase of perplexity per byte on other windows of two texts, and its
standard error over windows (of the mean over seeds). Quick: a smaller model, few steps, one unit.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

import torch

from mamba2 import BYTES, LENGTH, SAMPLES, TEXTS, Subject, increase, row_of, trained_model
from record import RESULTS, record
from ssmith import api
from ssmith.core.budget import Budget
from ssmith.core.files import write_text
from ssmith.core.optional import require
from ssmith.families.hf.engine import accelerate_
from trained import CACHE

PLACE = CACHE.parent / "hybrid"
METHODS = {
    "OBS, refitted": {"method": "obs"},
    "energy, refitted": {"method": "output-energy", "compensate": ("O",)},
    "energy": {"method": "output-energy"},
    "Minitron": {"method": "minitron"},
    "Minitron, refitted": {"method": "minitron", "compensate": ("O",)},
    "magnitude": {"method": "magnitude"},
    "random": {"method": "random"},
}
CUTS = (("neuron", 0.25), ("neuron", 0.5), ("head_dim", 0.25), ("head", 0.25), ("kv_group", 0.5))
BLOCKS = {
    "blocks by loss, made up for": {"compensate": ("O",)},
    "blocks by loss": {"compensate": "none"},
}
GONE = (1, 2)
"""Whole blocks, of four."""
HELD = 64


def built(*, quick: bool) -> Any:
    """Return a new model on the engine."""
    transformers = require("transformers", extra="hf", purpose="a hybrid to train")
    torch.manual_seed(0)
    width, layers = (64, 2) if quick else (128, 4)
    config = transformers.BambaConfig(
        vocab_size=256, hidden_size=width, intermediate_size=3 * width, num_hidden_layers=layers,
        attn_layer_indices=[layers - 2], num_attention_heads=4, num_key_value_heads=2,
        mamba_n_heads=2 * width // 32, mamba_d_head=32, mamba_d_state=32, mamba_n_groups=1,
        mamba_chunk_size=64, pad_token_id=0, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    model = transformers.BambaForCausalLM(config)
    accelerate_(model)
    return model


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return one row per unit, share, method and seed, with the losses of every window."""
    torch.set_num_threads(1)
    like = api.load(BYTES)
    quick, steps = options.quick, 40 if options.quick else options.steps
    source = api.load_text(TEXTS["Python"], like)
    place = PLACE / f"model{'-quick' * quick}-{steps}"
    dense = trained_model(source, place, lambda: built(quick=quick), steps)
    subject = Subject.of(dense, source, like, windows=8 if quick else HELD)
    rows = []
    for unit, share, method, settings in wanted(quick=quick):
        for seed in range(1 if quick or method == "magnitude" else options.seeds):
            name = f"{unit}-{share:g}-{method.replace(', ', '_')}-{seed}-{steps}.json"
            path = PLACE / f"{'quick-' * quick}{name}"
            about = {"unit": unit, "share": share, "method": method}
            budget = Budget(unit, share, seed=seed, **settings)
            windows = source.sample(8 if quick else SAMPLES, LENGTH, seed=seed)
            rows.append(subject.row(path, budget, windows, about))
    return rows


def wanted(*, quick: bool) -> Iterator[tuple[str, float, str, dict[str, Any]]]:
    """Yield unit, amount, method and its settings of every row."""
    for unit, share in CUTS[:1] if quick else CUTS:
        for method in list(METHODS)[:3] if quick else METHODS:
            yield unit, share, method, METHODS[method]
    for count in () if quick else GONE:
        for method, settings in BLOCKS.items():
            yield "block", count, method, settings


def cell(rows: list[dict[str, Any]], cut: tuple[str, float], method: str, text: str) -> list[float]:
    """Return the increase of perplexity in per cent, and its standard error over windows."""
    own = [row for row in rows if row["unit"] == cut[0]]
    return increase(own, method, cut[1], text)


def table(rows: list[dict[str, Any]]) -> str:
    """Render the rows as Markdown."""
    seeds = sorted({row["seed"] for row in rows})
    dense = ", ".join(f"{value:.3f} on {name}" for name, value in rows[0]["dense"].items())
    lines = [
        f"Increase of perplexity per byte in per cent, ± standard error over {HELD} windows of "
        f"{LENGTH} bytes, of a byte-level Bamba (width 128, 4 layers, 8 heads of 32, 384 neurons, "
        f"2 attention groups in one layer; dense: {dense} nats per byte). Mean over calibration "
        f"seeds {seeds}, {SAMPLES} windows of Python each; magnitude sees no data. One small model "
        "that was trained for minutes: read the ratios.",
    ]
    for text in TEXTS:
        names = [f"{unit} {share:.0%}" for unit, share in CUTS]
        lines += ["", f"| {text}: removed | " + " | ".join(names) + " |", "|---" * 6 + "|"]
        for method in METHODS:
            cells = [cell(rows, cut, method, text) for cut in CUTS]
            lines.append(row_of(method, cells))
        names = [f"{count} of 4" for count in GONE]
        lines += ["", f"| {text}: blocks removed | " + " | ".join(names) + " |", "|---" * 3 + "|"]
        for method in BLOCKS:
            cells = [cell(rows, ("block", count), method, text) for count in GONE]
            lines.append(row_of(method, cells))
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seeds", type=int, default=3, help="calibration seeds")
    parser.add_argument("--steps", type=int, default=1000, help="training steps")
    options = parser.parse_args()
    rows = measure(options)
    if not options.quick:
        write_text(RESULTS / "hybrid.md", table(rows))
    summary = {
        f"{unit} {share:g}, {method}, {text}": round(found[0], 3)
        for unit, share, method, _ in wanted(quick=False)
        for text in TEXTS
        if (found := cell(rows, (unit, share), method, text))
    }
    for text in TEXTS:
        ours, theirs = (cell(rows, CUTS[0], name, text) for name in ("OBS, refitted", "energy"))
        summary[f"OBS against energy, {CUTS[0][0]} {CUTS[0][1]:g}, {text}"] = round(
            ours[0] / theirs[0], 3
        )
    record("hybrid", {"rows": rows}, summary, quick=options.quick)


if __name__ == "__main__":
    main()
