"""Time and memory of `ssmith predict` on tables of several lengths, in order and out of order.

Each command is a process of its own, whose peak is what the kernel counted.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from record import record

FULL, QUICK = (50_000, 1_000_000), (5_000, 20_000)
MACHINES, CHANNELS = 40, 4
_TRAIN = (
    "--sequence machine --time ts --task anomaly --window 24 --stride 12 --epochs 1 --out model"
)


def write(path: Path, steps: int, *, mixed: bool) -> None:
    """Write a log of machines, one after the other or among each other."""
    draw = np.random.default_rng(0)
    each = steps // MACHINES
    machine, step = np.divmod(np.arange(MACHINES * each), each)
    if mixed:
        step, machine = np.divmod(np.arange(MACHINES * each), MACHINES)
    values = np.sin(step[:, None] / np.arange(3, 3 + CHANNELS)) + draw.normal(
        scale=0.1, size=(len(step), CHANNELS)
    )
    with path.open("w") as file:
        file.write(",".join(["machine", "ts", *(f"c{place}" for place in range(CHANNELS))]) + "\n")
        for place, row in enumerate(values):
            cells = ",".join(f"{value:.4f}" for value in row)
            file.write(f"m{machine[place]},{step[place]},{cells}\n")


def run(words: str, place: Path) -> tuple[float, float]:
    """Return seconds and peak MiB of a command."""
    begun = time.monotonic()
    command = [sys.executable, "-m", "ssmith", *words.split(), "--quiet"]
    child = subprocess.Popen(command, cwd=place, env={**os.environ, "OMP_NUM_THREADS": "1"})
    _, status, used = os.wait4(child.pid, 0)
    assert status == 0, words
    return time.monotonic() - begun, used.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        write(place / "train.csv", 4_000, mixed=False)
        run(f"train --data train.csv {_TRAIN}", place)
        for mixed in (False, True):
            for steps in QUICK if options.quick else FULL:
                write(place / "new.csv", steps, mixed=mixed)
                seconds, peak = run("predict model --data new.csv --out out.parquet", place)
                (place / "out.parquet").unlink()
                rows.append({
                    "steps": steps, "mixed": mixed, "seconds": round(seconds, 1),
                    "peak_mib": round(peak), "file_mib": round(
                        (place / "new.csv").stat().st_size / 2**20, 1),
                })  # fmt: skip
    summary = {
        f"{'mixed' if row['mixed'] else 'in order'}, {row['steps']:,} steps": [
            row["seconds"],
            row["peak_mib"],
        ]
        for row in rows
    }
    record("long_predict", {"rows": rows}, summary, quick=options.quick)


if __name__ == "__main__":
    main()
