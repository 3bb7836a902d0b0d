"""Render which tuning method is best at which size, from the stored results, losing cases first."""

from __future__ import annotations

import itertools
import statistics
from dataclasses import dataclass

import domain_table
import tuning_table
from record import RESULTS
from ssmith.core.files import read_json, write_text
from tuning import LENGTHS, OTHERS, stored_as

OURS, RIVAL = "state-offset", "LoRA"
BUDGETS = (500, 5_000, 20_000, None)
"""Numbers trained at most; None: as many as one likes."""
TITLES = {
    "C headers": "text: C headers", "dart": "text: DART", "vowels": "series: vowels, new classes",
    "speech": "speech: other voices", "images": "images: other digits",
    "sensors": "sensors: the other wrist", "demand": "forecast: another season",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Run:
    """A method on a task: numbers trained, and the metric of every seed."""

    method: str
    numbers: int
    values: tuple[float, ...]
    higher: bool
    digits: int

    @property
    def score(self) -> float:
        """The mean, such that more is better."""
        return statistics.mean(self.values) * (1 if self.higher else -1)

    @property
    def spread(self) -> str:
        shown = [f"{item:.{self.digits}f}" for item in (min(self.values), max(self.values))]
        return f"{statistics.mean(self.values):.{self.digits}f} ({' … '.join(shown)})"

    @property
    def said(self) -> str:
        return f"{self.method} ({self.numbers:,}): {self.spread}"

    def apart(self, other: Run) -> bool:
        """Whether no seed of one is among those of the other."""
        return max(self.values) < min(other.values) or max(other.values) < min(self.values)


def runs() -> dict[str, list[Run]]:
    """Return the methods of every task by its title, at the rate that validated best."""
    found = {}
    for other, steps in itertools.product(("", *OTHERS), LENGTHS):
        file = RESULTS / f"{stored_as(steps, other)}.json"
        stored = read_json(file) if file.is_file() else {"rows": []}
        on = f", on {other}" if other else ""
        for table in tuning_table.tables(stored["rows"]):
            title = f"{TITLES[table.task]}, {steps:,} steps{on}"
            found[title] = [
                Run(method=item.method, numbers=item.row["parameters"], values=item.values,
                    higher=table.higher, digits=1 if table.higher else 3)
                for item in table.results
                # What chooses among the others is none of its own.
                if item.tried
            ]  # fmt: skip
    rows = read_json(RESULTS / "domains.json")["rows"]
    for task in domain_table.tasks(rows):
        error = task in domain_table.ERRORS
        own = [
            Run(method=method, numbers=tries[0]["parameters"], higher=not error, digits=1,
                values=tuple(row["target"] * (1 if error else 100) for row in tries))
            for method, tries in domain_table.final(rows, task).items()
        ]  # fmt: skip
        if own:
            found[TITLES[task]] = own
    return found


def best(of: list[Run], most: int | None, name: str = "") -> Run | None:
    """Return the best run that trains so few numbers, of the methods of a name."""
    fits = [
        run for run in of
        if (most is None or run.numbers <= most) and run.method.startswith(name)
    ]  # fmt: skip
    return max(fits, key=lambda run: run.score, default=None)


def duels(found: dict[str, list[Run]]) -> list[tuple[str, Run, Run, str]]:
    """Return state offsets against the best LoRA of no more numbers, lost ones first.

    An offset joined with LoRA is no offset alone and stands aside. Where LoRA trains more whatever
    it adapts, its smallest form is the rival.
    """
    told = []
    for task, own in found.items():
        for run in own:
            if not run.method.startswith(OURS) or RIVAL in run.method:
                continue
            alike = [item for item in own if ("head" in item.method) == ("head" in run.method)]
            least = min(item.numbers for item in alike if item.method.startswith(RIVAL))
            rival = best(alike, max(run.numbers, least), RIVAL)
            assert rival is not None
            ahead = "offset" if run.score > rival.score else RIVAL
            told.append((task, run, rival, ahead if run.apart(rival) else "within the seeds"))
    order = [RIVAL, "within the seeds", "offset"]
    return sorted(told, key=lambda item: order.index(item[3]))


def page() -> str:
    """Return both tables as Markdown."""
    found = runs()
    lines = [
        "| state offset (numbers trained) | LoRA (numbers trained) | on | ahead |",
        "|---|---|---|---|",
        *(
            f"| {run.said} | {rival.said} | {task} | {ahead} |"
            for task, run, rival, ahead in duels(found)
        ),
        "", "The best of all methods that train at most so many numbers:", "",
        "| task | " + " | ".join(f"{most:,}" if most else "any" for most in BUDGETS) + " |",
        "|---" * (1 + len(BUDGETS)) + "|",
    ]  # fmt: skip
    for task, own in found.items():
        cells = [best(own, most) for most in BUDGETS]
        shown = " | ".join("–" if run is None else run.said for run in cells)
        lines.append(f"| {task} | {shown} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    write_text(RESULTS / "which_tuning.md", page())
