"""How many calibration samples a cut of a selective model takes, and how much mass may move.

The shipped byte model on the standard library: columns and entries of A_log at 50 % with 1 … 256
samples, and projections at 50 % with the share of each layer moved by up to α. Several calibration
seeds; every row is kept as it is measured. Quick: one seed, few samples, two values of α.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import sys
from collections.abc import Iterator
from typing import Any

from plots import Panel, draw
from record import RESULTS, record
from ssmith import api, spine
from ssmith.core.budget import Budget
from ssmith.core.files import read_json, write_json, write_text
from ssmith.evaluation.perplexity import bits, window_losses
from ssmith.surgery import prune_
from trained import CACHE

ROWS = CACHE.parent / "samples"
MODEL = "embedded:python-mamba"
COUNTS = (1, 4, 16, 64, 256)
ALPHAS = (0.0, 0.02, 0.05, 0.1, 0.2)
LENGTH, FEW, HELD = 512, 16, 48
CUTS = {
    "A_log 50 %, SparseSSM": Budget("entry", 0.5, method="sparsessm"),
    "A_log 50 %, output energy": Budget("entry", 0.5, method="output-energy"),
    "columns 50 %, refitted": Budget("state", 0.5),
}
PROJECTIONS = "projections 50 %, OBS"


def tasks(seeds: int, *, quick: bool) -> Iterator[tuple[str, float, int, int, Budget]]:
    """Yield label, value, samples, seed and budget of every row."""
    for seed in range(seeds):
        for count in COUNTS[:2] if quick else COUNTS:
            for label, budget in CUTS.items():
                yield label, count, count, seed, budget
        for alpha in ALPHAS[:2] if quick else ALPHAS:
            budget = Budget("weight", 0.5, scope="sensitivity", settings={"width": alpha})
            yield PROJECTIONS, alpha, FEW, seed, budget


def stored() -> list[dict[str, Any]]:
    """Return the rows that were measured so far."""
    return [read_json(path) for path in sorted(ROWS.glob("*.json")) if path.name[:5] != "quick"]


def measure(seeds: int, *, quick: bool) -> list[dict[str, Any]]:
    """Return one row per task."""
    dense = api.load(MODEL)
    text = api.load_text("stdlib:", dense)
    held = text.windows(LENGTH).spread(8 if quick else HELD)
    base = bits(float(window_losses(dense, held).sum())) / held.scored
    rows = []
    for label, value, count, seed, budget in tasks(seeds, quick=quick):
        path = ROWS / f"{'quick-' * quick}{label.replace(' ', '_')}-{value:g}-{seed}.json"
        if not path.is_file():
            model = copy.deepcopy(dense)
            prune_(model, spine.plan(dense, budget, text.sample(count, LENGTH, seed=seed)))
            found = bits(float(window_losses(model, held).sum())) / held.scored
            row = {"cut": label, "value": value, "seed": seed, "bits_per_byte": found}
            write_json(path, {**row, "dense": base})
            print(f"{label}, {value:g}, seed {seed}: {found - base:+.4f}", file=sys.stderr)
        rows.append(read_json(path))
    return rows


def lost(rows: list[dict[str, Any]], cut: str, value: float) -> list[float]:
    """Return the bits per byte lost, one number per seed."""
    return [
        row["bits_per_byte"] - row["dense"]
        for row in rows
        if (row["cut"], row["value"]) == (cut, value)
    ]


def table(rows: list[dict[str, Any]]) -> str:
    """Render the rows as Markdown."""
    if not rows:
        return "No row is measured yet.\n"
    seeds = sorted({row["seed"] for row in rows})
    lines = [
        f"Bits per byte lost by `{MODEL}` (dense: {rows[0]['dense']:.4f}) on {HELD} windows of "
        f"{LENGTH} bytes from all over the test split of the standard library: mean (smallest … "
        f"largest) over calibration seeds {seeds}. Calibration windows are as long.",
        "",
        "![Bits per byte lost against calibration samples](samples.svg)",
    ]
    for title, cuts, values in (
        ("Calibration samples", tuple(CUTS), COUNTS),
        (f"α of the allocation, {FEW} samples", (PROJECTIONS,), ALPHAS),
    ):
        lines += ["", f"| {title} | " + " | ".join(f"{value:g}" for value in values) + " |"]
        lines.append("|---" * (1 + len(values)) + "|")
        for cut in cuts:
            cells = [_cell(lost(rows, cut, value)) for value in values]
            lines.append(f"| {cut} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(found: list[float]) -> str:
    if not found:
        return "not measured"
    mean = f"{statistics.mean(found):+.4f}"
    return mean if len(found) == 1 else f"{mean} ({min(found):+.4f} … {max(found):+.4f})"


def plot(rows: list[dict[str, Any]]) -> None:
    """Draw both sweeps."""
    panels = []
    for title, cuts, values in (
        ("1 to 256 samples", tuple(CUTS), COUNTS),
        ("α of the allocation", (PROJECTIONS,), ALPHAS),
    ):
        series = {}
        for cut in cuts:
            found = [(value, lost(rows, cut, value)) for value in values]
            series[cut] = [
                (value, statistics.mean(each), min(each), max(each))
                for value, each in found
                if each
            ]
        panels.append(Panel(title=title, series={k: v for k, v in series.items() if v}))
    shown = [panel for panel in panels if panel.series]
    draw("samples", shown, ("samples, or α", "bits per byte lost"), ours=tuple(CUTS)[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seeds", type=int, default=3, help="calibration seeds")
    parser.add_argument("--render", action="store_true", help="only from rows that are there")
    options = parser.parse_args()
    seeds = 1 if options.quick else options.seeds
    rows = stored() if options.render else measure(seeds, quick=options.quick)
    if not options.quick:
        write_text(RESULTS / "samples.md", table(rows))
        if rows:
            plot(rows)
    summary = {
        f"{cut}, {value:g}": round(statistics.mean(found), 4)
        for cut, values in ((name, COUNTS) for name in CUTS)
        for value in values
        if (found := lost(rows, cut, value))
    }
    record("samples", {"rows": rows}, summary, quick=options.quick)


if __name__ == "__main__":
    main()
