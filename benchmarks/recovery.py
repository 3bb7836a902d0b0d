"""What cheap tuning gives back of a cut of Mamba-2's states: state offsets against LoRA.

The model is that of `mamba2.py`, or ``--model``; three quarters of its states go, by balanced
truncation and by what stock code opens. Then it learns from the dense model (its predictions on
rows of Python sources, no labels): by state offsets in both forms, the pilot's usual recovery, and
by LoRA on ``out_proj`` with the rank whose numbers come closest to theirs, for the same steps.
Every method takes the best of the same rates, by validation on the first calibration seed; the
other seeds, of calibration, order and start, take that one. One row more is the pilot's own
recovery, which is told no rate. Measured is the increase of perplexity
over the dense model, on windows of Python and of prose. Every row is kept as it is measured. Quick:
a smaller model, few steps, one cut.
"""

from __future__ import annotations

import argparse
import copy
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mamba2 import (
    BYTES,
    HELD,
    LENGTH,
    PLACE,
    SAMPLES,
    SMALL,
    TEXTS,
    Subject,
    dense_model,
    increase,
)
from record import RESULTS, record
from ssmith import api
from ssmith.core.budget import Budget
from ssmith.core.files import read_json, write_json, write_text
from ssmith.core.tokens import TokenWindows
from ssmith.families import model_digest
from ssmith.families.hf import accelerate_
from ssmith.families.mamba2.grouped import GroupedLayer
from ssmith.families.registry import sites
from ssmith.jobs.tuning.learning import Lesson, learn_
from ssmith.jobs.tuning.recovery import RecoveryConfig, recover_
from ssmith.jobs.tuning.training_set import TrainingSet, window_rows
from ssmith.tune import adapters
from ssmith.tune.adapters import LoRA, Method, StateOffset
from ssmith.tune.training import LanguageObjective, TrainingConfig

SHARE = 0.75
CUTS: dict[str, dict[str, Any]] = {"balanced truncation": {"method": "balanced"}, "columns": {}}
RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
NOTHING, PILOT = "nothing", "state offsets, as a pilot does"
ROWS, BATCH = 512, 8


def methods(cut: nn.Module) -> dict[str, Method]:
    """Return what is compared on a cut model."""
    layers = [site.view() for site in sites(cut).values() if site.family.kind == "ssm"]
    found = [view for view in layers if isinstance(view, GroupedLayer)]
    numbers = sum(view.e * (view.n + 1) for view in found)
    per_rank = sum(sum(view.mixer.out_proj.weight.shape) for view in found)
    rank = max(1, round(numbers / per_rank))
    return {
        "state offsets": StateOffset(form="both"),
        f"LoRA on out_proj, rank {rank}": LoRA(targets=("out_proj",), rank=rank),
    }


class Course:
    """What is learned, from whom, and where rows are kept."""

    def __init__(self, subject: Subject, where: Path, steps: int, rates: tuple[float, ...]) -> None:
        self.subject, self.where, self.steps, self.rates = subject, where, steps, rates
        self.teacher = copy.deepcopy(subject.dense).requires_grad_(requires_grad=False).eval()
        accelerate_(self.teacher)

    def cut(self, name: str, seed: int) -> nn.Module:
        """Return the cut model, calibrated with a seed."""
        windows = self.subject.source.sample(SAMPLES, LENGTH, seed=seed)
        return self.subject.cut(Budget("state", SHARE, seed=seed, **CUTS[name]), windows)

    def data(self, seed: int) -> TrainingSet:
        """Return rows to learn from, and to choose by."""
        source = self.subject.source
        train: TokenWindows = source.sample(ROWS, LENGTH, seed=1000 + seed)
        held: TokenWindows = source.windows(LENGTH, split="validation").spread(32)
        return TrainingSet(
            objective=LanguageObjective(teacher=self.teacher, distill_weight=1.0),
            rows={"train": window_rows(train), "validation": window_rows(held)},
            sha256=train.sha256,
        )

    def row(self, cut: str, method: str, seed: int, rate: float) -> dict[str, Any]:
        """Return what a method gives back at a rate; read where it was measured earlier."""
        path = self.where / f"{cut}-{method}-{seed}-{rate:g}.json".replace(" ", "_")
        if not path.is_file():
            model = self.cut(cut, seed)
            about: dict[str, Any] = {"numbers": 0, "validation": None}
            if method == PILOT:
                about = self.recovered_(model, seed)
            elif method != NOTHING:
                about = self.learned_(model, methods(model)[method], seed, rate)
            lost = self.subject.lost(model)
            key = {"share": SHARE, "cut": cut, "method": f"{cut}: {method}", "seed": seed}
            write_json(path, {**key, "rate": rate, "lost": lost, **about})
            print(cut, method, seed, rate, about, file=sys.stderr, flush=True)
        found: dict[str, Any] = read_json(path)
        return found

    def learned_(self, model: nn.Module, method: Method, seed: int, rate: float) -> dict[str, Any]:
        """Train a method on a cut model in place, as `ssmith.jobs.tuning.recovery` does."""
        accelerate_(model)
        report = adapters.attach_(model, (method,), name="recovery", seed=seed)
        training = TrainingConfig(
            rate=rate, steps=self.steps, batch_size=BATCH, seed=seed, evaluate_every=self.steps // 4
        )
        done, _ = learn_(model, "recovery", Lesson(data=self.data(seed), training=training))
        adapters.merge_(model, "recovery", hold=True)
        looks = {look.step: look.validation for look in done.looks}
        return {
            "numbers": report.parameters, "best_step": done.best_step,
            "validation": looks[done.best_step]["loss"],
        }  # fmt: skip

    def recovered_(self, model: nn.Module, seed: int) -> dict[str, Any]:
        """Recover a cut model in place as a pilot does."""
        config = RecoveryConfig(steps=self.steps, batch_size=BATCH, seed=seed)
        done = recover_(model, self.subject.dense, self.data(seed), config)
        return {
            "numbers": done.parameters, "best_step": done.best_step, "shares": done.shares,
            "validation": done.validation["after"]["loss"],
        }  # fmt: skip

    def rows(self, cut: str, seeds: int) -> list[dict[str, Any]]:
        """Return the rows of a cut: before, and of every method at its rate."""
        found = [self.row(cut, NOTHING, seed, 0.0) for seed in range(seeds)]
        for method in methods(self.cut(cut, 0)):
            tried = [self.row(cut, method, 0, rate) for rate in self.rates]
            best = min(tried, key=lambda row: row["validation"])
            found += [self.row(cut, method, seed, best["rate"]) for seed in range(seeds)]
        return found + [self.row(cut, PILOT, seed, 0.0) for seed in range(seeds)]


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return one row per cut, method and seed, at the method's rate."""
    torch.set_num_threads(options.threads)
    like = api.load(BYTES)
    source: Any = api.load_text(TEXTS["Python"], like)
    dense = dense_model(source, options)
    subject = Subject.of(dense, source, like, windows=8 if options.quick else HELD)
    steps, rates = (8, RATES[1:2]) if options.quick else (options.steps, RATES)
    where = PLACE.parent / "recovery" / f"{model_digest(dense)[:12]}-{steps}"
    course = Course(subject, where, steps, rates)
    cuts = list(CUTS)[: 1 if options.quick else None]
    seeds = 1 if options.quick else options.seeds
    return [row for cut in cuts for row in course.rows(cut, seeds)]


def table(raw: dict[str, Any]) -> str:
    """Render the rows as Markdown."""
    rows = raw["rows"]
    seeds = sorted({row["seed"] for row in rows})
    lines = [
        f"Increase of perplexity per byte over the dense model in per cent, ± standard error over "
        f"{HELD} windows of {LENGTH} bytes, of {raw['model']}, {SHARE:.0%} of whose states went; "
        f"then {raw['steps']} steps of {BATCH} windows of Python towards the dense model's "
        f"predictions, each method at its best of the rates {', '.join(map(str, RATES))} or, as a "
        f"pilot does, at the usual rates or an eighth or a 64th of them. Mean over seeds {seeds}.",
        "",
        "| cut: tuned | numbers | rate | " + " | ".join(TEXTS) + " |",
        "|---" * (3 + len(TEXTS)) + "|",
    ]
    for name in dict.fromkeys(row["method"] for row in rows):
        own = next(row for row in rows if row["method"] == name)
        cells = [increase(rows, name, SHARE, text) for text in TEXTS]
        shown = " | ".join(f"{mean:.2f} ± {error:.2f}" for mean, error in cells)
        lines.append(f"| {name} | {own['numbers']:,} | {rate_of(own)} | {shown} |")
    return "\n".join(lines) + "\n"


def rate_of(row: dict[str, Any]) -> str:
    """Say a row's rate, or the shares of the starting rates that were tried."""
    if "shares" in row:
        return "usual × " + ", ".join(
            f"1/{1 / share:g}" if share < 1 else "1" for share in row["shares"]
        )
    return f"{row['rate']:g}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seeds", type=int, default=3, help="of calibration, order and start")
    parser.add_argument("--model", help="another Mamba-2 that reads bytes")
    parser.add_argument("--steps", type=int, default=100, help="steps of tuning")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    rows = measure(options)
    raw = {"rows": rows, "steps": options.steps, "model": options.model or SMALL}
    summary = {
        f"{row['method']}, {text}": round(increase(rows, row["method"], SHARE, text)[0], 3)
        for row in rows
        for text in TEXTS
    }
    record("recovery", raw, summary, quick=options.quick)
    if not options.quick:
        write_text(RESULTS / "recovery.md", table(raw))


if __name__ == "__main__":
    main()
