"""Speed of shrunk S5 layers against the dense ones they were cut from, timed in turns.

The states that stay are drawn at random: which they are does not change the time. Everything is
timed twice, with the memory allocator as it comes and with freed memory kept (`tune_allocator_`):
as it comes, page faults of fresh tensors weigh as much as the arithmetic and vary from run to run.
"""

from __future__ import annotations

import argparse
import copy
from typing import Any

import torch

from record import RESULTS, record
from ssmith.core.files import read_json, write_text
from ssmith.core.settings import to_mapping
from ssmith.core.words import number_of
from ssmith.evaluation import Timing, time_pair
from ssmith.families import S5Layer, sites
from ssmith.ops import backends
from ssmith.ops.native.allocator import tune_allocator_

SHAPES = ((128, 256, 8, 1024), (256, 256, 8, 1024), (256, 512, 4, 1024))
"""Width, states (conjugate pairs), sequences, steps."""
STEP_BATCH = 64


def speed(seconds: float) -> list[dict[str, Any]]:
    """Time S5 layers against their own shrunk copies, in turns."""
    rows = []
    stream = torch.Generator().manual_seed(0)
    for width, states, b, length in SHAPES:
        for kept in (0.75, 0.5, 0.25):
            dense = S5Layer(width, states, blocks=8, generator=stream)
            shrunk = copy.deepcopy(dense)
            keep = torch.randperm(states, generator=stream) < round(kept * states)
            (site,) = sites(shrunk).values()
            site.cut_(site.coupling("state"), keep)
            u = torch.randn(b, length, width, generator=stream)
            with torch.no_grad():
                whole = time_pair(
                    lambda u=u, m=dense: m(u), lambda u=u, m=shrunk: m(u), seconds=seconds
                )
                step = _steps(
                    dense, shrunk, torch.randn(STEP_BATCH, width, generator=stream), seconds
                )
            shape = {"width": width, "states": states, "batch": b, "length": length}
            rows.append(
                {
                    **shape,
                    "kept": kept,
                    "forward": to_mapping(whole.section()),
                    "step": to_mapping(step.section()),
                    "forward_ratio": 1 / whole.speedup,
                    "step_ratio": 1 / step.speedup,
                }
            )
    return rows


def _steps(dense: S5Layer, shrunk: S5Layer, u: torch.Tensor, seconds: float) -> Timing:
    runs = []
    for layer in (dense, shrunk):
        state, discrete = layer.initial_state(len(u)), layer.discretise()
        runs.append(lambda m=layer, s=state, d=discrete: m.step(u, s, d))
    return time_pair(runs[0], runs[1], seconds=seconds)


def worst_at_half(rows: list[dict[str, Any]], ratio: str) -> float:
    return round(max(row[ratio] for row in rows if row["kept"] == 0.5), 3)


def table(raw: dict[str, Any]) -> str:
    """Render stored results as Markdown: time of a shrunk layer over that of the dense one."""
    lines = [
        "Time of a shrunk S5 layer as a share of the dense one's, "
        f"{number_of(raw['threads'], 'thread')}, {raw['versions']['machine']}; batch and length "
        "of each row, single steps with "
        f"{raw['step_batch']} sequences. *Kept memory*: with `tune_allocator_`, which hands freed "
        "memory to the next call.",
        "",
        "| width | pairs | batch × length | kept | forward | step | forward, kept memory | step, "
        "kept memory |",
        "|---" * 8 + "|",
    ]
    for plain, tuned in zip(raw["rows"], raw["rows_tuned"], strict=True):
        ratios = [row[name] for row in (plain, tuned) for name in ("forward_ratio", "step_ratio")]
        lines.append(
            f"| {plain['width']} | {plain['states']} | {plain['batch']} × {plain['length']} | "
            f"{100 * plain['kept']:.0f} % | " + " | ".join(f"{item:.2f}" for item in ratios) + " |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    # One thread by default: on a busy machine, threads that wait for each other time the queue.
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    seconds = 0.4 if options.quick else 5.0
    plain = speed(seconds)
    tune_allocator_()
    tuned = speed(seconds)
    summary = {
        "forward_at_half_vs_dense": worst_at_half(plain, "forward_ratio"),
        "forward_at_half_vs_dense_tuned": worst_at_half(tuned, "forward_ratio"),
        "step_at_half_vs_dense": worst_at_half(plain, "step_ratio"),
        "step_at_half_vs_dense_tuned": worst_at_half(tuned, "step_ratio"),
    }
    raw = {
        "rows": plain,
        "rows_tuned": tuned,
        "step_batch": STEP_BATCH,
        "threads": torch.get_num_threads(),
        "paths": [str(choice) for choice in backends.describe()],
    }
    record("lti_speed", raw, summary, quick=options.quick)
    if not options.quick:
        write_text(RESULTS / "lti_speed.md", table(read_json(RESULTS / "lti_speed.json")))


if __name__ == "__main__":
    main()
