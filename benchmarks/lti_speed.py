"""Speed of shrunk S5 layers against the dense ones they were cut from, timed in turns.

The states that stay are drawn at random: which they are does not change the time.
"""

from __future__ import annotations

import argparse
import copy
from typing import Any

import torch

from record import record
from ssmith.evaluate import Timing, time_pair
from ssmith.families import S5Layer
from ssmith.ops import backends

SHAPES = ((128, 256, 8, 1024), (256, 512, 4, 1024))
"""Width, states (conjugate pairs), sequences, steps."""
STEP_BATCH = 16


def speed(seconds: float) -> list[dict[str, Any]]:
    """Time S5 layers against their own shrunk copies, in turns."""
    rows = []
    stream = torch.Generator().manual_seed(0)
    for width, states, b, length in SHAPES:
        for kept in (0.75, 0.5, 0.25):
            dense = S5Layer(width, states, blocks=8, generator=stream)
            shrunk = copy.deepcopy(dense)
            shrunk.shrink_(torch.randperm(states, generator=stream) < round(kept * states))
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
                    "forward": whole.as_dict(),
                    "step": step.as_dict(),
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    rows = speed(0.5 if options.quick else 5.0)
    half = [row for row in rows if row["kept"] == 0.5]
    summary = {
        "forward_at_half_vs_dense": round(max(row["forward_ratio"] for row in half), 3),
        "step_at_half_vs_dense": round(max(row["step_ratio"] for row in half), 3),
    }
    raw = {
        "rows": rows,
        "step_batch": STEP_BATCH,
        "threads": torch.get_num_threads(),
        "paths": [str(choice) for choice in backends.describe()],
    }
    record("lti_speed", raw, summary, quick=options.quick)


if __name__ == "__main__":
    main()
