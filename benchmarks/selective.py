"""What cutting a trained selective language model costs, by every method, with nothing retrained.

Two byte-level Mambas, the larger one the language model that comes along; calibrated on one part of
a text and measured on its test split, for several calibration seeds, on two texts every user has:
the standard library's sources, and the prose of Python's own language reference. With ``--other``
what was calibrated on code is measured on a third text, too. Every row is kept as it is measured; a
killed run goes on from there, and ``--minutes`` ends one early. Quick: one tiny model trained in
place, one seed, one text, one level of each cut.
"""

from __future__ import annotations

import argparse
import copy
import math
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from pydoc_data import topics
from typing import Any

import torch

import released
import selective_table
from record import RESULTS, record
from selective_cuts import Cut, cuts
from ssmith import api, spine
from ssmith.core.files import read_json, write_json, write_text
from ssmith.core.text import Text
from ssmith.core.tokens import TokenWindows
from ssmith.evaluation.perplexity import window_losses
from ssmith.jobs.train import Recipe, train
from ssmith.ops.native.allocator import tune_allocator_
from ssmith.surgery import prune_

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache"
ROWS = CACHE / "selective-rows"
# The small one: `ssmith train` on stdlib: of width 128, 4 layers, 16 states, seed 0.
MODELS: dict[str, str | Path] = {
    "reference": "embedded:python-mamba", "small": CACHE / "small" / "model",
}  # fmt: skip
OTHER = "after code"
ONE_SEED = (
    "fastest decay, no data", "magnitude", "magnitude, uniform", "SparseSSM v1, votes",
    "greedy after refit + CB (ours)", "OBS + refit, measured loss", "ours, measured loss",
)  # fmt: skip
# The methods that every text and model, and every seed, should have.
HEADLINES = {
    "A_log": {
        "output energy (ours)", "output energy + D (ours)", "Gram greedy + D (ours)",
        "SparseSSM v2, released",
        "fastest decay, no data", "magnitude",
    },
    "columns": {
        "greedy after refit + C (ours)", "greedy after refit + C + D (ours)",
        "SparseSSM structured", "magnitude",
    },
    "projections": {
        "OBS + refit (ours)", "SparseGPT, fresh", "SparseGPT as released", "Wanda",
        "magnitude, uniform", "magnitude",
    },
    "whole model": {"ours", "SparseSSM, fresh", "SparseSSM as released", "magnitude"},
}  # fmt: skip
TINY = Recipe(
    kind="language",
    data={"text": "stdlib:"},
    model={"width": 64, "layers": 2, "states": 16},
    fit={"steps": 60, "batch_size": 8, "length": 256, "lr": 0.01},
)


def texts() -> dict[str, Text]:
    """Return the two texts: code, and English prose."""
    with tempfile.TemporaryDirectory() as directory:
        prose = Path(directory) / "reference.txt"
        prose.write_text("\n\n".join(topics.topics.values()), encoding="utf-8")
        return {"code": api.load_text("stdlib:"), "prose": api.load_text(prose)}


def measured(model: torch.nn.Module, windows: TokenWindows) -> float:
    """Return perplexity per byte."""
    return math.exp(float(window_losses(model, windows, batch_size=8).sum()) / windows.scored)


@dataclass(frozen=True, kw_only=True)
class Case:
    """One model, one text, one calibration seed."""

    name: str
    model: torch.nn.Module
    text: str
    seed: int
    calibration: TokenWindows
    test: TokenWindows
    dense: float

    def row(self, cut: Cut) -> dict[str, Any]:
        """Cut a copy of the model and measure it."""
        start = time.perf_counter()
        if cut.released:
            pruned, removed = released.cut(self.model, cut.budgets, self.calibration)
        else:
            pruned = copy.deepcopy(self.model)
            plan = spine.plan(self.model, cut.budgets, self.calibration)
            removed = prune_(pruned, plan).as_dict()["removed"]
        return {
            "model": self.name, "text": self.text, "seed": self.seed, "unit": cut.unit,
            "level": cut.level, "method": cut.method,
            "cuts": [budget.as_dict() for budget in cut.budgets],
            "removed": removed, "dense": self.dense,
            "perplexity": measured(pruned, self.test), "seconds": time.perf_counter() - start,
            "samples": len(self.calibration), "length": self.calibration.ids.shape[1],
            "test_tokens": self.test.scored,
        }  # fmt: skip

    def kept(self, cut: Cut) -> Path:
        """Return where the row is kept: under everything it depends on but the code."""
        name = f"{cut.key}-{self.seed}.json".replace("/", "_")
        sizes = f"{len(self.calibration)}x{self.calibration.ids.shape[1]}-{len(self.test)}"
        return ROWS / sizes / self.name / self.text / name


def cases(models: dict[str, str | Path | None], options: argparse.Namespace) -> Iterator[Case]:
    """Yield every model on every text for every seed."""
    named = texts()
    pairs = [(name, text, text) for name, text in list(named.items())[: 1 if options.quick else 2]]
    if options.other is not None:
        name, _, path = options.other.partition("=")
        pairs.append((f"{name} {OTHER}", named["code"], api.load_text(path)))
    loaded = {
        name: train(TINY).model if path is None else api.load(path) for name, path in models.items()
    }
    for name, model in loaded.items():
        for text_name, source, target in pairs:
            test = target.windows(options.length, tail=False).spread(options.test)
            dense = measured(model, test)
            for seed in range(1 if options.quick else options.seeds):
                calibration = source.sample(options.samples, options.length, seed=seed)
                yield Case(
                    name=name, model=model, text=text_name, seed=seed, calibration=calibration,
                    test=test, dense=dense,
                )  # fmt: skip


def all_rows(
    models: dict[str, str | Path | None], options: argparse.Namespace
) -> list[dict[str, Any]]:
    """Return every row, what the goals are set for first, measuring what was not before."""
    end = time.monotonic() + 60 * options.minutes
    made = list(cases(models, options))
    jobs = [(case, cut) for case in made for cut in cuts(quick=options.quick) if wanted(cut, case)]
    found = {}
    for case, cut in sorted(jobs, key=lambda job: urgency(job[1], job[0])):
        only = options.render or time.monotonic() > end
        row = kept_row(case, cut, keep=not options.quick, only=only)
        if row is not None:
            found[id(case), cut.key] = row
    # Tables list models, texts and methods in the order of the jobs.
    return [found[key] for case, cut in jobs if (key := (id(case), cut.key)) in found]


def urgency(cut: Cut, case: Case) -> int:
    """Return a row's turn: headlines for one seed, for all; then the other methods and levels."""
    main, elsewhere = is_headline(cut), OTHER in case.text
    if cut.level in ("50 %", "75 %") and main and not elsewhere:
        return 0 if case.seed == 0 else 2
    if case.seed == 0 and cut.level in ("50 %", "2:4") and not elsewhere:
        return 1
    if elsewhere or (main and case.seed == 0):
        return 3
    return 4 if case.seed == 0 else 5


def is_headline(cut: Cut) -> bool:
    """Return whether a method is one of those every group of the table should have."""
    return cut.method in HEADLINES[cut.unit]


def kept_row(case: Case, cut: Cut, *, keep: bool, only: bool) -> dict[str, Any] | None:
    """Return a row from the disk, or measure it unless only what is there is wanted."""
    path = case.kept(cut)
    if keep and path.exists():
        content: dict[str, Any] = read_json(path)
        return content
    if only:
        return None
    row = case.row(cut)
    if keep:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, row)
    print(
        f"{case.name} {case.text} {case.seed} {cut.key}: "
        f"{selective_table.increase(row):+.3f} % ({row['seconds']:.1f} s)",
        file=sys.stderr,
    )
    return row


def wanted(cut: Cut, case: Case) -> bool:
    """Return whether a row is to be measured at all.

    Methods without data are the same for every seed; the slowest are run for one seed only; on a
    text that nothing was calibrated on the headlines are enough.
    """
    if OTHER in case.text and not (is_headline(cut) and cut.level in ("50 %", "75 %")):
        return False
    return case.seed == 0 or cut.method not in ONE_SEED


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--models", nargs="*", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--seeds", type=int, default=3, help="calibration seeds")
    parser.add_argument("--samples", type=int, default=32)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument(
        "--test", type=int, default=32, help="test windows, from all over the split"
    )
    parser.add_argument("--other", metavar="NAME=FILE", help="a third text, to measure on only")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="then render")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--render", action="store_true", help="only from rows that are there")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    tune_allocator_()
    if options.quick:
        options.samples, options.length, options.test = 8, 128, 16
    models = {name: MODELS[name] for name in options.models}
    rows = all_rows({"tiny": None} if options.quick else models, options)
    facts = {name: getattr(options, name) for name in ("samples", "length", "test")}
    if not options.quick:
        write_text(RESULTS / "selective.md", selective_table.table(rows, facts))
        selective_table.plot(rows)
    record(
        "selective", {"rows": rows, **facts}, selective_table.summarise(rows), quick=options.quick
    )


if __name__ == "__main__":
    main()
