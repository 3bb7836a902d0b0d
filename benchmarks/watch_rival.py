"""The verdict of Evidently's preset for drift on tables; runs where Evidently is installed.

    python -m venv .venv/evidently && .venv/evidently/bin/pip install evidently 'pandas<3'

Looks are joined: the preset sees all rows so far after 1, 2, 4, 8 … looks, with its defaults.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from evidently import Report
from evidently.metrics import DriftedColumnsCount

warnings.simplefilter("ignore")


def drifted(profile: np.ndarray, rows: np.ndarray) -> bool:
    """Whether the preset says that the data set has drifted: half of its columns have."""
    names = [f"c{place}" for place in range(profile.shape[1])]
    # What the preset's verdict is, without its plots of every column.
    report = Report([DriftedColumnsCount()])
    done = report.run(pd.DataFrame(rows, columns=names), pd.DataFrame(profile, columns=names))
    for metric in done.dict()["metrics"]:
        value = metric["value"]
        if isinstance(value, dict) and "share" in value:
            return bool(value["share"] >= 0.5)
    raise SystemExit("the preset does not tell the share of columns that drifted")


def main() -> None:
    answers = {}
    for path in sorted(Path(sys.argv[1]).glob("*.npz")):
        held = np.load(path)
        answers[path.stem], size = None, int(held["look"])
        while size <= len(held["rows"]):
            if drifted(held["profile"], held["rows"][:size]):
                answers[path.stem] = size
                break
            size *= 2
    print(json.dumps(answers))


if __name__ == "__main__":
    main()
