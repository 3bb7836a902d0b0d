"""What cutting the states of Mamba-2 gains in time, at a shape of the published models.

Four layers of width 768 with 24 heads of 64 channels and 128 states, random weights. A quarter of
the states stays, as columns that stock code reads, or projected by two small maps (balanced
truncation). Timed in turns against the dense model: a batch, its scans alone, a step of 8 and of 32
sequences; the projected model against the columns, and the two maps against a layer that has them.
Quick: two layers of width 256, short times.
"""

from __future__ import annotations

import argparse
import copy
from typing import Any

import torch
from torch import Tensor, nn

from record import RESULTS, record
from ssmith import api, spine
from ssmith.core.budget import Budget
from ssmith.core.files import read_json, write_text
from ssmith.core.settings import to_mapping
from ssmith.core.words import number_of
from ssmith.evaluation import SpeedConfig, Timing, measure_speed, time_pair
from ssmith.families import ssm_sites
from ssmith.families.hf import engine, new_language_model
from ssmith.families.hf.create import Mamba2Size
from ssmith.families.mamba2.forward import mapped
from ssmith.ops.native.allocator import tune_allocator_
from ssmith.ops.ssd import SSDInputs, ssd
from ssmith.surgery import prune_

SIZE = Mamba2Size(width=768, layers=4)
QUICK = Mamba2Size(width=256, layers=2)
SHARE = 0.75
CUTS: dict[str, dict[str, Any]] = {
    "columns": {"compensate": "none"},
    "projected": {"method": "balanced"},
}
STEPS = (8, 32)
GOALS = {"scan": 0.35, "step of 8": 0.7, "step of 32": 0.7, "maps": 0.02}
ROWS = {"batch": (4, 1024), **{f"step of {count}": (count, 1) for count in STEPS}}
"""Sequences and steps of what is timed."""


def scans(size: Mamba2Size, seconds: float) -> Timing:
    """Time the scan of one layer with all states against that with a quarter of them."""
    draw = torch.Generator().manual_seed(0)

    def inputs(states: int) -> SSDInputs:
        def drawn(*shape: int) -> Tensor:
            return torch.randn(4, 1024, *shape, generator=draw)

        return SSDInputs(
            x=drawn(size.heads, size.head_width),
            dt=drawn(size.heads).sigmoid() / 10,
            A=-torch.arange(1.0, size.heads + 1),
            B=drawn(size.groups, states),
            C=drawn(size.groups, states),
        )

    whole, part = inputs(size.states), inputs(round(size.states * (1 - SHARE)))
    with torch.no_grad():
        return time_pair(lambda: ssd(whole), lambda: ssd(part), seconds=seconds)


def maps(model: nn.Module, rows: tuple[int, int], seconds: float) -> Timing:
    """Time a projected layer against the two maps in it."""
    site = next(iter(ssm_sites(model).values()))
    mixer: Any = model.get_submodule(site.name)
    draw = torch.Generator().manual_seed(0)
    hidden = torch.randn(*rows, mixer.hidden_size, generator=draw)
    given = torch.randn(*rows, mixer.n_groups, mixer.ssm_state_size, generator=draw)
    sides = ("state_map_B", "state_map_C")
    with engine(model), torch.no_grad():
        return time_pair(
            lambda: mixer(hidden), lambda: [mapped(mixer, side, given) for side in sides],
            seconds=seconds,
        )  # fmt: skip


def timed(before: nn.Module, after: nn.Module, windows: Any, seconds: float) -> dict[str, Timing]:
    """Time two models in turns: a batch, and steps of several sequences."""
    found: dict[str, Timing | None] = {}
    for count in STEPS:
        config = SpeedConfig(seconds=seconds, step_batch_size=count)
        speed = measure_speed(before, after, windows.first(4), config=config)
        found["batch"] = speed.per_batch
        found[f"step of {count}"] = speed.per_step
    return {name: item for name, item in found.items() if item is not None}


def sections(found: dict[str, Timing]) -> dict[str, Any]:
    return {key: to_mapping(item.section()) for key, item in found.items()}


def measure(size: Mamba2Size, seconds: float) -> dict[str, Any]:
    """Return times of each cut against the dense model."""
    dense = new_language_model(size, seed=0).eval()
    windows = api.load_text("stdlib:", dense).sample(8, 1024)
    cut = {name: copy.deepcopy(dense) for name in CUTS}
    for name, how in CUTS.items():
        prune_(cut[name], spine.plan(dense, Budget("state", SHARE, **how), windows))
    times = {name: timed(dense, model, windows, seconds) for name, model in cut.items()}
    against = timed(cut["columns"], cut["projected"], windows, seconds)
    mapping = {name: maps(cut["projected"], rows, seconds) for name, rows in ROWS.items()}
    return {
        "times": {name: sections(found) for name, found in times.items()},
        "scan": to_mapping(scans(size, seconds).section()),
        "projected against columns": sections(against),
        "maps": sections(mapping),
    }  # fmt: skip


def ratio(found: dict[str, Any]) -> float:
    return float(found["after"] / found["before"])


def summed(raw: dict[str, Any]) -> dict[str, float]:
    """Return the ratios that have a goal, and the others beside them."""
    times = raw["times"]
    found = {
        f"{key}, {name}": round(ratio(times[name][key]), 3) for name in times for key in times[name]
    }
    found["scan"] = round(ratio(raw["scan"]), 3)
    for key in ROWS:
        found[f"maps, {key}"] = round(ratio(raw["maps"][key]), 4)
    found["projected against columns, batch"] = round(
        ratio(raw["projected against columns"]["batch"]), 3
    )
    return found


def table(raw: dict[str, Any]) -> str:
    """Render stored results as Markdown."""
    found, size = raw["summary"], raw["size"]
    lines = [
        f"Time after a cut of {SHARE:.0%} of the states as a share of the dense model's, in turns "
        f"in one run: Mamba-2, {size['layers']} layers of width {size['width']}, {size['states']} "
        f"states, {number_of(raw['threads'], 'thread')}, {raw['versions']['machine']}; batches of "
        "4 × 1,024 tokens.",
        "",
        "| | columns | projected | goal |",
        "|---|---|---|---|",
    ]
    lines.append(f"| scan | {found['scan']:.2f} | {found['scan']:.2f} | {GOALS['scan']} |")
    for key in ROWS:
        cells = [f"{found[f'{key}, {name}']:.2f}" for name in CUTS]
        goal = f"{GOALS[key]}" if key in GOALS else "–"
        lines.append(f"| {key} | {' | '.join(cells)} | {goal} |")
    for key in ROWS:
        goal = f"{GOALS['maps']} |"
        lines.append(f"| the two maps in a layer, {key} | | {found[f'maps, {key}']:.3f} | {goal}")
    beside = found["projected against columns, batch"]
    lines.append(f"| projected against columns, batch | | {beside:.2f} | – |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    tune_allocator_()
    size = QUICK if options.quick else SIZE
    raw = measure(size, 0.5 if options.quick else 4.0)
    raw["size"] = {name: getattr(size, name) for name in ("width", "layers", "states")}
    raw["threads"] = options.threads
    record("mamba2_speed", raw, summed(raw), quick=options.quick)
    if not options.quick:
        write_text(RESULTS / "mamba2_speed.md", table(read_json(RESULTS / "mamba2_speed.json")))


if __name__ == "__main__":
    main()
