"""Tables and plots of the tuning benchmark: every method on every task, and what is missing."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ssmith.core.files import write_text
from ssmith.report.plot import ACCENT, INK, MUTED, SOFT, canvas, render, table_csv

Row = dict[str, Any]
OURS, AUTO, AUTO_ANY = "state-offset", "auto", "auto, any size"
BITS = math.log(2.0)


@dataclass(frozen=True)
class Result:
    """A method on a task at its best rate.

    Args:
        method: its name.
        row: of the first seed.
        values: the test metric of each seed.
        tried: rates that were tried; none for what chooses by itself.
        usual: the test metric of each seed when nobody names rate or optimiser.
        answers: what was written at the best rate, by metric a mean over seeds.
    """

    method: str
    row: Row
    values: tuple[float, ...]
    tried: tuple[float, ...]
    usual: tuple[float, ...] = ()
    answers: dict[str, float] = field(default_factory=dict)

    @property
    def mean(self) -> float:
        return statistics.mean(self.values)

    @property
    def spread(self) -> str:
        return f"{self.mean:.3f} ({min(self.values):.3f} … {max(self.values):.3f})"

    @property
    def rate(self) -> str:
        if not self.tried:
            return "its own"
        shown = f"{self.row['rate']:g}"
        at_end = self.row["rate"] in (min(self.tried), max(self.tried))
        return f"**{shown}**" if at_end else shown


@dataclass(frozen=True)
class Table:
    """The results of a task, best first.

    Args:
        task: its name.
        metric: what is measured.
        higher: whether more of it is better.
        untuned: the metric without tuning; None where there is a new head.
        results: by method.
    """

    task: str
    metric: str
    higher: bool
    untuned: float | None
    results: tuple[Result, ...]


def tables(rows: list[Row]) -> Iterator[Table]:
    """Yield one table for each task."""
    for task in dict.fromkeys(row["task"] for row in rows):
        own = [row for row in rows if row["task"] == task and row["validation"] is not None]
        if not own:
            continue
        labels = "accuracy" in own[0]["test"]
        name, unit = ("accuracy", 0.01) if labels else ("loss", BITS)
        before = own[0]["test"][name].get("before")
        found = [
            _result([row for row in own if row["method"] == method], name, unit)
            for method in dict.fromkeys(row["method"] for row in own)
        ]
        yield Table(
            task=task,
            metric="accuracy, %" if labels else "bits per byte",
            higher=labels,
            untuned=None if before is None else before / unit,
            results=tuple(sorted(found, key=lambda item: item.mean, reverse=labels)),
        )


def _result(rows: list[Row], name: str, unit: float) -> Result:
    named = [row for row in rows if row["rate"] is not None] or rows
    first = [row for row in named if row["seed"] == named[0]["seed"]]
    best = max(first, key=lambda row: tuple(row["score"]))

    def values(rate: float | None) -> tuple[float, ...]:
        return tuple(row["test"][name]["after"] / unit for row in rows if row["rate"] == rate)

    judged = [row["answers"] for row in rows if row["rate"] == best["rate"] and row.get("answers")]
    return Result(
        method=best["method"],
        row=best,
        values=values(best["rate"]),
        tried=tuple(row["rate"] for row in first if row["rate"] is not None),
        usual=values(None),
        answers={
            metric: statistics.mean(item[metric] for item in judged)
            for metric in (judged[0] if judged else ())
        },
    )


def behind(table: Table) -> dict[str, float]:
    """Return by method how far its usual run is behind its best rate and optimiser, in per cent.

    ``auto`` is compared with the best of all methods, whether it tries them or not, that store no
    more than it may: a quarter of what full tuning stores.
    """
    most = max(item.row["stored"] for item in table.results) / 4
    found = {}
    for item in table.results:
        rivals = [
            other.mean
            for other in table.results
            if other.method.split(", Muon")[0] == item.method
            or item.method == AUTO_ANY
            or (item.method == AUTO and other.row["stored"] <= most)
        ]
        if item.usual:
            best = max(rivals) if table.higher else min(rivals)
            lost = statistics.mean(item.usual) / best - 1
            found[item.method] = 100 * (-lost if table.higher else lost)
    return found


def page(rows: list[Row], about: dict[str, Any]) -> str:
    """Return all tables as Markdown.

    Args:
        rows: all runs.
        about: facts on base, budget and seeds.

    Returns:
        The page.
    """
    lines = [
        f"Base: {about['base']}. Every method: {about['steps']} steps of {about['batch']} rows, "
        "linear decay with warm-up; the learning rate by one search for all, on the validation "
        "split with the first seed (neighbours a factor of five apart until both are worse; in "
        f"**bold** where the best one is the last that was tried), then {about['seeds']} seeds. "
        "Of each run the look that validates best is kept. Test: mean (smallest … largest) over "
        "seeds, which are orders and initial values; the test rows are the same. *As it comes*: "
        "nobody names a rate or an optimiser, and how far that is *behind* the best of the method "
        "(for auto: of all methods that store at most a quarter of the base's numbers, as it must, "
        "or of all). All on one small model and short budgets: places may "
        "differ on large ones.",
    ]
    lacking = missing(rows, about)
    if lacking:
        lines += ["", f"Not measured yet: {'; '.join(lacking)}."]
    for table in tables(rows):
        lines += ["", f"### {table.task}", "", _place(table), ""]
        better = "more" if table.higher else "less"
        lines += [
            f"| method | numbers trained | stored | rate | {table.metric} ({better} is better) | "
            "as it comes | behind |",
            "|---" * 7 + "|",
        ]
        lost = behind(table)
        for item in table.results:
            row = item.row
            usual = f"{statistics.mean(item.usual):.3f}" if item.usual else "–"
            lag = f"{round(lost[item.method], 1) + 0.0:.1f} %" if item.method in lost else "–"
            lines.append(
                f"| {_named(item)} | {row['parameters']:,} | {row['stored']:,} | {item.rate} | "
                f"{item.spread} | {usual} | {lag} |"
            )
        if table.untuned is not None:
            lines.append(f"| *untuned* | 0 | 0 | – | {table.untuned:.3f} | – | – |")
        lines += answers(table)
    return "\n".join(lines) + "\n"


def answers(table: Table) -> list[str]:
    """Return as lines what the tuned models write, in the order of the table; none if they do not.

    An answer that came to no end of its own was cut off.
    """
    written = [item for item in table.results if item.answers]
    if not written:
        return []
    lines = ["", "| answers of | BLEU | ROUGE-1 | ROUGE-2 | ROUGE-L | end by themselves |"]
    lines += ["|---" * 6 + "|"]
    for item in written:
        shown = [f"{item.answers[name]:.1f}" for name in ("bleu", "rouge1", "rouge2", "rougeL")]
        ended = f"{100 * (1 - item.answers['unended']):.0f} %"
        lines.append(f"| {item.method} | {' | '.join(shown)} | {ended} |")
    return lines


def missing(rows: list[Row], about: dict[str, Any]) -> list[str]:
    """Return the methods of each task that have fewer runs than they should, in words."""
    found = []
    for task, methods in about["methods"].items():
        known = {row["method"]: row for row in rows if row["task"] == task}
        seeds = {
            item.method: len(item.values)
            for table in tables(rows)
            if table.task == task
            for item in table.results
        }
        nothing = [name for name in methods if name not in known]
        few = [name for name in known if 0 < seeds.get(name, 0) < about["seeds"]]
        failed = [name for name in known if name not in seeds]
        for names, words in ((nothing, "no run of"), (few, "fewer seeds of"), (failed, "failed:")):
            if names:
                shown = "all methods" if len(names) == len(methods) else ", ".join(names)
                found.append(f"{task}: {words} {shown}")
    return found


def _named(item: Result) -> str:
    chosen = item.row.get("chosen")
    return item.method if chosen is None else f"{item.method} (first seed: {chosen})"


def _place(table: Table) -> str:
    """Say where State-offset stands, as it is."""
    names = [item.method for item in table.results]
    ours = [f"{name} {names.index(name) + 1}." for name in names if name.startswith(OURS)]
    return f"Places of {len(names)}: {'; '.join(ours)}"


def summary(rows: list[Row]) -> dict[str, Any]:
    """Return each task's metric and means, JSON-ready."""
    return {
        table.task: {
            "metric": table.metric,
            "untuned": None if table.untuned is None else round(table.untuned, 4),
            **{item.method: round(item.mean, 4) for item in table.results},
            "behind, %": {name: round(lost, 2) for name, lost in behind(table).items()},
        }
        for table in tables(rows)
    }


def plot(rows: list[Row], directory: Path, start: str) -> None:
    """Draw one file per task, its data beside it: the metric of every method, the best on top."""
    for table in tables(rows):
        found = table.results[::-1]
        with canvas(860, 90 + 19 * len(found)) as figure:
            axes = figure.add_subplot()
            for place, item in enumerate(found):
                color = ACCENT if item.method.startswith(OURS) else MUTED
                axes.plot([min(item.values), max(item.values)], [place, place], color=color, lw=1.6)
                axes.plot(item.mean, place, "o", color=color, ms=5)
            if table.untuned is not None:
                axes.axvline(table.untuned, color=SOFT, ls="--", label="untuned")
                axes.legend(frameon=False, loc="lower left")
            shown = [f"{item.method}: {item.row['parameters']:,}" for item in found]
            axes.set_yticks(range(len(found)), shown)
            axes.set_xlabel(f"{table.metric}; dots: mean of seeds, lines: all of them")
            axes.set_title(f"{table.task}: method and numbers trained", fontsize=12, color=INK)
            figure.tight_layout()
            name = f"{start}-{table.task.lower().replace(' ', '-')}"
            drawn = render(
                figure, name=name, data=_data(table),
                alt=f"{table.metric} of every method on {table.task}; the data are beside it.",
            )  # fmt: skip
        write_text(directory / f"{name}.svg", drawn.svg)
        write_text(directory / f"{name}.csv", drawn.csv)


def _data(table: Table) -> str:
    columns = ["method", "numbers trained", "mean", "lowest", "highest"]
    return table_csv(
        columns,
        [
            [item.method, item.row["parameters"], item.mean, min(item.values), max(item.values)]
            for item in table.results
        ],
    )
