"""What it takes to cut the states of Mamba-2, in forward passes of the rows it is measured on.

Layers of width 768 with 24 heads of 64 channels and 128 states, random weights; a quarter of the
states stays. Statistics, choice and refits of 64 × 1,024 tokens as ``ssmith prune`` makes them by
default, with the output map's refit alone, without any, and balanced truncation. Passes of the
dense model are timed before, between and after. ``--large`` cuts a model with the blocks of
mamba2-130m in a process of its own instead, and adds seconds and peak memory to what is stored.
Quick: one layer of width 256, four rows.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

from record import RESULTS, record
from ssmith import api, spine
from ssmith.core.budget import Budget
from ssmith.core.files import read_json, write_text
from ssmith.core.words import number_of
from ssmith.families.hf import engine, new_language_model
from ssmith.families.hf.create import Mamba2Size
from ssmith.ops.native.allocator import tune_allocator_
from tune import timed

SIZE = Mamba2Size(width=768, layers=2)
QUICK = Mamba2Size(width=256, layers=1)
LARGE = Mamba2Size(width=768, layers=24)
"""The blocks of mamba2-130m; its tokens are bytes."""
SHARE, LENGTH, GOAL = 0.75, 1024, 1.5
CUTS: dict[str, dict[str, Any]] = {
    "columns, reading rows and output map refitted (by default)": {},
    "columns, output map refitted": {"compensate": ("O",)},
    "columns": {"compensate": "none"},
    "balanced truncation": {"method": "balanced"},
}


def forward(model: nn.Module, windows: Any) -> None:
    with engine(model), torch.no_grad():
        for start in range(0, len(windows), 8):
            model(input_ids=windows.ids[start : start + 8], use_cache=False)


def measure(size: Mamba2Size, samples: int) -> dict[str, Any]:
    """Return how long each plan takes, and passes around it: a machine's speed drifts."""
    dense = new_language_model(size, seed=0).eval()
    windows = api.load_text("stdlib:", dense).sample(samples, LENGTH)
    forward(dense, windows.first(8))
    passes, plans = [timed(lambda: forward(dense, windows))], {}
    for name, how in CUTS.items():
        budget = Budget("state", SHARE, **how)
        plans[name] = timed(lambda b=budget: spine.plan(dense, b, windows))
        passes.append(timed(lambda: forward(dense, windows)))
    return {"forward_seconds": passes, "planning_seconds": plans}


def large(samples: int) -> dict[str, Any]:
    """Cut a model of the shape of mamba2-130m by the command line; return seconds and the peak."""
    with tempfile.TemporaryDirectory() as place:
        model = new_language_model(LARGE, seed=0)
        parameters = sum(item.numel() for item in model.parameters())
        api.save(model, Path(place) / "model")
        del model
        command = [
            sys.executable, "-m", "ssmith", "prune", f"{place}/model", "--cut", f"state={SHARE}",
            "--data", "stdlib:", "--samples", str(samples), "--length", str(LENGTH),
            "--out", f"{place}/small",
        ]  # fmt: skip
        seconds = timed(lambda: subprocess.run(command, check=True, capture_output=True))
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    return {
        "parameters": parameters, "tokens": samples * LENGTH, "seconds": seconds,
        "peak_bytes": peak, "weights_bytes": 4 * parameters, "cores": os.cpu_count(),
    }  # fmt: skip


def summed(raw: dict[str, Any]) -> dict[str, float]:
    """Return each plan's time as a multiple of the mean of the passes before and after it."""
    passes, took = raw["forward_seconds"], raw["planning_seconds"]
    # In the order they ran in, which stored results do not keep.
    beside = zip(CUTS, passes, passes[1:], strict=False)
    return {name: round(2 * took[name] / (before + after), 2) for name, before, after in beside}


def table(raw: dict[str, Any]) -> str:
    """Render stored results as Markdown."""
    size = raw["size"]
    lines = [
        f"| planned for {size['layers']} layers of width {size['width']}, {size['states']} states, "
        f"on {raw['samples']} × {LENGTH:,} tokens | in forward passes of the dense layers |",
        "|---|---|",
        *(f"| {name} | {value:.1f} |" for name, value in raw["summary"].items()),
        f"| *goal* | {GOAL} |",
        "",
        f"{number_of(raw['threads'], 'thread')}, {raw['versions']['machine']}; {SHARE:.0%} of the "
        "states go.",
    ]
    if raw["large"]:
        big = raw["large"]
        lines += [
            "",
            f"`ssmith prune --cut state={SHARE}` of {big['parameters'] / 1e6:.0f} M parameters in "
            "the blocks of mamba2-130m (random weights, bytes as tokens) on "
            f"{big['tokens']:,} tokens, as it comes: {big['seconds'] / 60:.0f} minutes on "
            f"{number_of(big['cores'], 'core')}, peak of the process "
            f"{big['peak_bytes'] / 2**20:,.0f} MiB, of which the weights are "
            f"{big['weights_bytes'] / 2**20:,.0f}.",
        ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--large", action="store_true", help="cut one like mamba2-130m instead")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    tune_allocator_()
    size, samples = (QUICK, 4) if options.quick else (SIZE, 64)
    stored = RESULTS / "mamba2_planning.json"
    if options.large:
        raw = read_json(stored) | {"large": large(samples)}
    else:
        raw = measure(size, samples) | {"large": None}
        raw["size"] = {name: getattr(size, name) for name in ("width", "layers", "states")}
        raw |= {"samples": samples, "threads": options.threads}
    record("mamba2_planning", raw, summed(raw), quick=options.quick)
    if not options.quick:
        write_text(RESULTS / "mamba2_planning.md", table(read_json(stored)))


if __name__ == "__main__":
    main()
