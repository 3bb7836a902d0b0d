"""What cuts of a hybrid cost by every method: neurons, heads, attention, blocks; no training.

The model is the hybrid that ships (Bamba: Mamba-2 mixers, one layer of attention, feed-forward in
every block); a share of one kind of unit goes, or of three together, calibrated on windows of the
sources of Python's standard library, with several seeds. Measured is the increase of perplexity per
byte on other windows of two texts, and its standard error over windows (of the mean over seeds).
Quick: a small model that is trained here in few steps, one unit.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from mamba2 import BYTES, LENGTH, SAMPLES, TEXTS, Subject, increase, row_of, trained_model, wide
from record import RESULTS, record
from ssmith import api
from ssmith.core.budget import Budget
from ssmith.core.files import write_text
from ssmith.core.optional import require
from ssmith.families import model_digest
from ssmith.families.hf.engine import accelerate_
from trained import CACHE

PLACE = CACHE.parent / "hybrid"
MODEL = "embedded:python-hybrid"
METHODS = {
    "OBS, refitted": {"method": "obs"},
    "OBS, refitted to the dense stream": {"method": "obs", "compensate": ("S",)},
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
TOGETHER = "state+head_dim+neuron"
RECIPES = {
    "ours: balanced, OBS, OBS to the dense stream": (
        {"method": "balanced"}, {"method": "obs"}, {"method": "obs", "compensate": ("S",)},
    ),
    "ours, opened by stock code": (
        {"method": "gram-greedy", "compensate": ("C", "O")},
        {"method": "obs"}, {"method": "obs", "compensate": ("S",)},
    ),
    "the literature's: GHOST, Minitron, Minitron": (
        {"method": "ghost"}, {"method": "minitron"}, {"method": "minitron"},
    ),
}  # fmt: skip
"""What takes three quarters of the states, a part of each head and of the neurons together."""
SHARES = (0.75, 0.125, 0.5625)
LAST = ("neuron",)
"""Units of maps that a block adds last, which alone can be refitted to the dense stream."""
HELD, STEPS = 64, 40


def quick_model() -> Any:
    """Return a new small model on the engine."""
    transformers = require("transformers", extra="hf", purpose="a hybrid to train")
    torch.manual_seed(0)
    config = transformers.BambaConfig(
        vocab_size=256, hidden_size=64, intermediate_size=192, num_hidden_layers=2,
        attn_layer_indices=[0], num_attention_heads=4, num_key_value_heads=2,
        mamba_n_heads=4, mamba_d_head=32, mamba_d_state=32, mamba_n_groups=1,
        mamba_chunk_size=64, pad_token_id=0, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    model = transformers.BambaForCausalLM(config)
    accelerate_(model)
    return model


def measure(options: argparse.Namespace) -> tuple[list[dict[str, Any]], nn.Module]:
    """Return one row per cut, method and seed, with the losses of every window; and the model."""
    torch.set_num_threads(1)
    like, quick = api.load(BYTES), options.quick
    source: Any = api.load_text(TEXTS["Python"], like)
    dense = (
        trained_model(source, PLACE / f"model-quick-{STEPS}", quick_model, STEPS)
        if quick
        else wide(options.model)
    )
    subject = Subject.of(dense, source, like, windows=8 if quick else HELD)
    where, rows = PLACE / f"{'quick-' * quick}{model_digest(dense)[:12]}", []
    for unit, share, method, how in wanted(quick=quick):
        for seed in range(1 if quick or method == "magnitude" else options.seeds):
            name = f"{unit}-{share:g}-{method}-{seed}.json".replace(" ", "_")
            budgets = [
                Budget(own, part, seed=seed, **settings)
                for own, part, settings in zip(unit.split("+"), how[0], how[1], strict=True)
            ]
            windows = source.sample(8 if quick else SAMPLES, LENGTH, seed=seed)
            about = {"unit": unit, "share": share, "method": method}
            rows.append(subject.row(where / name, budgets, windows, about))
    return rows, dense


def wanted(*, quick: bool) -> Iterator[tuple[str, float, str, Any]]:
    """Yield what goes of every row: unit, amount, method; shares and settings of each unit."""
    for unit, share in CUTS[:1] if quick else CUTS:
        for method in list(METHODS)[:4] if quick else METHODS:
            if unit in LAST or "stream" not in method:
                yield unit, share, method, ((share,), (METHODS[method],))
    for count in () if quick else GONE:
        for method, settings in BLOCKS.items():
            yield "block", count, method, ((count,), (settings,))
    for method, each in () if quick else RECIPES.items():
        yield TOGETHER, SHARES[0], method, (SHARES, each)


def cell(rows: list[dict[str, Any]], cut: tuple[str, float], method: str, text: str) -> list[float]:
    """Return the increase of perplexity in per cent, and its standard error over windows."""
    own = [row for row in rows if row["unit"] == cut[0]]
    return increase(own, method, cut[1], text)


def table(raw: dict[str, Any]) -> str:
    """Render the rows as Markdown."""
    rows = raw["rows"]
    seeds = sorted({row["seed"] for row in rows})
    dense = ", ".join(f"{value:.3f} on {name}" for name, value in rows[0]["dense"].items())
    lines = [
        f"Increase of perplexity per byte in per cent, ± standard error over {HELD} windows of "
        f"{LENGTH} bytes, of {raw['model']} ({raw['size']}; dense: {dense} nats per byte). Mean "
        f"over calibration seeds {seeds}, {SAMPLES} windows of Python each; magnitude sees no "
        "data. Together: of states, channels of each head and neurons "
        f"{', '.join(f'{share:.1%}' for share in SHARES)}.",
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
        lines += ["", f"| {text}: together (of the blocks' parameters) | |", "|---" * 2 + "|"]
        for method in RECIPES:
            cells = [cell(rows, (TOGETHER, SHARES[0]), method, text)]
            lines.append(row_of(f"{method} ({gone(raw, method):.1%})", cells))
    return "\n".join(lines) + "\n"


def facts_of(model: Any) -> dict[str, Any]:
    """Return a model's size in words, and its parameters: all, and those of its blocks."""
    config = model.config
    size = (
        f"width {config.hidden_size}, {config.num_hidden_layers} layers, {config.mamba_n_heads} "
        f"heads of {config.mamba_d_head}, {config.mamba_d_state} states, "
        f"{config.intermediate_size} neurons"
    )
    blocks = model.model.layers.parameters()
    return {"size": size, "whole": model.num_parameters(), "blocks": sum(p.numel() for p in blocks)}


def gone(raw: dict[str, Any], recipe: str) -> float:
    """Return the share of the blocks' parameters that a recipe takes."""
    left = next(row["parameters"] for row in raw["rows"] if row["method"] == recipe)
    return float((raw["whole"] - left) / raw["blocks"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seeds", type=int, default=3, help="calibration seeds")
    parser.add_argument("--model", default=MODEL, help="another Bamba that reads bytes")
    options = parser.parse_args()
    rows, dense = measure(options)
    raw = {"rows": rows, "model": options.model, **facts_of(dense)}
    if not options.quick:
        write_text(RESULTS / "hybrid.md", table(raw))
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
    for text in () if options.quick else TEXTS:
        ours, _, theirs = (cell(rows, (TOGETHER, SHARES[0]), name, text) for name in RECIPES)
        summary[f"together, ours against the literature's, {text}"] = round(ours[0] / theirs[0], 3)
    record("hybrid", raw, summary, quick=options.quick)


if __name__ == "__main__":
    main()
