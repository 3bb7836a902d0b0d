"""Tuning onto a shifted domain from very few rows: state offsets, LoRA, the head alone, all of it.

Tasks, models, rates and steps are those of `domains.py`; what changes is how many rows of the other
domain there are, half as many to validate on. Which ones is drawn anew for each of three seeds.
What is measured is kept, and a killed run goes on there. Quick: one small task made on the fly.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

import torch

import domain_table
import ssmith as sm
from domains import (
    DOMAINS,
    RATES,
    SEEDS,
    STEPS,
    Row,
    Task,
    full_tasks,
    lesson_of,
    quick_task,
    tuned,
)
from record import RESULTS, record
from ssmith.core.files import write_text
from ssmith.core.seeds import permutation
from ssmith.core.sequences import SequenceData, Sequences
from ssmith.ops.native.allocator import tune_allocator_
from ssmith.tune.training import rows_of
from tuning import best_rate

METHODS = ("state-offset (y) + head", "LoRA + head", "head", "full")
COUNTS = (8, 32, 128)


def drawn(part: Sequences, count: int, seed: int) -> Sequences:
    """Return so many rows of a split, by chance."""
    return part.take(torch.as_tensor(permutation(len(part), seed, "few"))[:count])


def measure(task: Task, target: SequenceData, counts: tuple[int, ...], *, full: bool) -> None:
    """Measure every method's rates on the first seed, then its best one on the others."""
    seeds, steps = (SEEDS, STEPS) if full else (SEEDS[:1], 20)
    lesson = lesson_of(task, target, seeds[0], steps)
    for count in counts:
        for method in METHODS:

            def once(rate: float, seed: int, count: int = count, method: str = method) -> Row:
                few = {
                    name: rows_of(drawn(target.split(name), most, seed))
                    for name, most in (("train", count), ("validation", max(count // 2, 4)))
                }
                own = replace(lesson, data=replace(lesson.data, rows=few))
                return task.once(
                    "few", lambda: tuned(task, target, (method, rate, seed), own),
                    rows=count, method=method, seed=seed, rate=rate,
                )  # fmt: skip

            best = best_rate(
                {rate: once(rate, seeds[0]) for rate in (RATES if full else RATES[1:2])}
            )
            for seed in seeds[1:] if best is not None else ():
                once(best, seed)


def final(rows: list[Row], task: str, count: int) -> dict[str, list[Row]]:
    """Return each method's runs from so many rows, at the rate that validated best."""
    own = [{**row, "kind": "tuned"} for row in rows if row.get("rows") == count]
    return domain_table.final(own, task)


def table(rows: list[Row]) -> str:
    """Render what each method reaches from few rows, beside the model untouched."""
    lines = [
        "| task | rows | untouched | " + " | ".join(METHODS) + " |",
        "|---" * (3 + len(METHODS)) + "|",
    ]
    for task in domain_table.tasks(rows):
        dense = [row["target"] for row in domain_table.own(rows, task, "dense")]
        for count in dict.fromkeys(row["rows"] for row in domain_table.own(rows, task, "few")):
            runs = final(rows, task, count)
            cells = [
                domain_table.shown(task, [row["target"] for row in runs[name]]) if name in runs
                else "failed" for name in METHODS
            ]  # fmt: skip
            lines.append(
                f"| {task} | {count} | {domain_table.shown(task, dense)} | {' | '.join(cells)} |"
            )
    return "\n".join(lines) + "\n"


def summary(rows: list[Row]) -> dict[str, Any]:
    """Return the means over seeds, JSON-ready."""
    return {
        task: {
            str(count): {
                name: round(sum(row["target"] for row in runs) / len(runs), 4)
                for name, runs in final(rows, task, count).items()
            }
            for count in dict.fromkeys(
                row["rows"] for row in domain_table.own(rows, task, "few")
            )
        }
        for task in domain_table.tasks(rows)
    }  # fmt: skip


def measured(task: Task, counts: tuple[int, ...], *, full: bool) -> list[Row]:
    """Measure what is not kept of one task; return all that belongs here."""
    target = sm.load_data(task.place / task.domain.target, task.model(SEEDS[0]))
    for seed in SEEDS if full else SEEDS[:1]:
        task.once(
            "dense",
            lambda seed=seed: {  # type: ignore[misc]
                "target": task.value(task.model(seed), target.split("test"))
            },
            seed=seed,
        )
    measure(task, target, counts, full=full)
    return [row for row in task.kept.rows if row["kind"] in ("dense", "few")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    tune_allocator_()
    if options.quick:
        rows = measured(quick_task(), COUNTS[:1], full=False)
        record("few_rows", {"rows": rows}, summary(rows), quick=True)
        return
    chosen = tuple(item for item in DOMAINS if item.tuned)
    rows = [row for task in full_tasks(chosen) for row in measured(task, COUNTS, full=True)]
    write_text(RESULTS / "few_rows.md", table(rows))
    record("few_rows", {"rows": rows}, summary(rows), quick=False)


if __name__ == "__main__":
    main()
