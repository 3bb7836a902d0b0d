"""Shoulder exercises from a wrist watch: seven of them by ten people, on the right and on the left.

seglearn carries the recordings: three accelerations and three rates of turn, 50 times a second.
``OUT/right.csv`` and ``OUT/left.csv`` have 25 steps a second; a person is in one split in both.

    python recipes/domains/sensors.py --out sensors
    ssmith train recipes/domains/sensors.json --out watch
    ssmith predict watch --data sensors/left.csv --out exercises.csv
"""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path
from typing import Any

import numpy as np
from found import package_file

EVERY = 2
SPLITS = {9: "validation", 7: "selection", 8: "selection", 4: "test", 10: "test"}
"""Of people; the others are trained on."""


def write(path: Path, watch: dict[str, Any], side: int) -> None:
    """Write the recordings of one side, a step a row."""
    channels = watch["X_labels"]
    rows = ["recording,person,split,exercise,seconds," + ",".join(channels)]
    for place, values in enumerate(watch["X"]):
        if watch["side"][place] != side:
            continue
        person = int(watch["subject"][place])
        exercise = watch["y_labels"][int(watch["y"][place])].lower()
        said = f"{place},{person},{SPLITS.get(person, 'train')},{exercise}"
        for step, row in enumerate(np.asarray(values)[::EVERY]):
            numbers = ",".join(f"{value:.4f}" for value in row)
            rows.append(f"{said},{step * EVERY / 50:.2f},{numbers}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(rows) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    package_file("seglearn", "data/watch_dataset.npy")
    watch = importlib.import_module("seglearn.datasets").load_watch()
    write(out / "right.csv", watch, 1)
    write(out / "left.csv", watch, 0)


if __name__ == "__main__":
    main()
