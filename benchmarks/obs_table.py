"""Tables of the refit benchmark: points lost with their spread, and where a rival does better."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from typing import Any

import numpy as np

OURS, AUTO = "State-OBS", "auto"
AUTO_TUNED = f"{AUTO} + short fine-tune"
GOALS = (
    (AUTO, 0.8, 0.5), (AUTO, 0.9, 2.0), (f"{OURS} + short fine-tune", 0.9, 0.5),
    (f"{OURS} + fine-tune twice as long", 0.9, 0.5), (AUTO_TUNED, 0.9, 0.5),
)  # fmt: skip
"""Method, ratio, and the mean loss in points it should stay within."""
RIVALS = ("LAST", "AIRE")
RESAMPLES = 2000

Row = dict[str, Any]


def hits(row: Row) -> np.ndarray:
    return np.frombuffer(row["hits"].encode(), dtype=np.uint8) - ord("0")


def chosen(rows: list[Row], candidates: list[str], name: str) -> list[Row]:
    """Return rows of that name: of each model and ratio the candidate best on selection.

    The first of equally good ones; none where a candidate was not measured. ``accuracy`` on the
    test split plays no part.
    """
    found: dict[tuple[str, int, float], dict[str, Row]] = defaultdict(dict)
    for row in rows:
        if "selection" in row or "why" in row:
            found[row["task"], row["seed"], row["ratio"]][row["method"]] = row
    picked = []
    for own in found.values():
        if not all(label in own for label in candidates):
            continue
        able = [own[label] for label in candidates if "why" not in own[label]]
        if not able:
            continue
        best = max(able, key=lambda row: row["selection"].count("1"))
        picked.append({**best, "method": name, "chosen": best["method"]})
    return picked


class Results:
    """Rows by what they are of."""

    def __init__(self, rows: list[Row]) -> None:
        self.tasks = sorted({row["task"] for row in rows})
        self.ratios = sorted({row["ratio"] for row in rows} - {0.0})
        self.methods = list(
            dict.fromkeys(row["method"] for row in rows if row["method"] != "dense")
        )
        self.rows = {
            (row["task"], row["seed"], row["method"], row["ratio"]): row
            for row in rows
            if "hits" in row
        }
        self.seeds: dict[str, list[int]] = defaultdict(list)
        for task, seed, method, _ in self.rows:
            if method == "dense":
                self.seeds[task].append(seed)

    def lost(self, task: str, method: str, ratio: float) -> list[float]:
        """Points lost, one number per seed that was measured."""
        return [
            100 * float(hits(self.rows[task, seed, "dense", 0.0]).mean() - hits(found).mean())
            for seed in self.seeds[task]
            if (found := self.rows.get((task, seed, method, ratio))) is not None
        ]

    def mean(self, method: str, ratio: float) -> float | None:
        """Mean over tasks of the mean over seeds; None where a whole task is missing."""
        means = [statistics.mean(own) for t in self.tasks if (own := self.lost(t, method, ratio))]
        return statistics.mean(means) if len(means) == len(self.tasks) else None

    def paired(self, task: str, method: str, ratio: float) -> tuple[float, float]:
        """Mean points lost by a method and by ours, over the seeds the former was measured with."""
        seeds = [s for s in self.seeds[task] if (task, s, method, ratio) in self.rows]
        means = []
        for name in (method, OURS):
            own = [
                100
                * float(
                    hits(self.rows[task, seed, "dense", 0.0]).mean()
                    - hits(self.rows[task, seed, name, ratio]).mean()
                )
                for seed in seeds
                if (task, seed, name, ratio) in self.rows
            ]
            means.append(statistics.mean(own) if own else float("nan"))
        return means[0], means[1]

    def against(self, task: str, rival: str, ratio: float) -> tuple[float, float, float] | None:
        """Points by which ours is better, with its interval: in pairs, sequences resampled."""
        pairs = [
            (self.rows[task, seed, OURS, ratio], self.rows[task, seed, rival, ratio])
            for seed in self.seeds[task]
            if (task, seed, OURS, ratio) in self.rows and (task, seed, rival, ratio) in self.rows
        ]
        if not pairs:
            return None
        gain = np.mean([hits(a).astype(float) - hits(b) for a, b in pairs], axis=0)
        draw = np.random.default_rng(0)
        index = draw.integers(len(gain), size=(RESAMPLES, len(gain)))
        low, high = np.quantile(gain[index].mean(1), (0.025, 0.975))
        return 100 * float(gain.mean()), 100 * float(low), 100 * float(high)


def render(rows: list[Row], missing: list[str], candidates: list[str]) -> str:
    """Return the tables as Markdown."""
    found = Results(rows)
    lines = [
        "Points of test accuracy lost when that share of all states is removed, mean (smallest … "
        "largest) over training seeds. Negative: better than dense. Refits saw 256 training "
        "sequences at most; nothing was trained after a cut but where the name says so.",
        "",
        "*without refit*: states go, the rest stays as it was. *refit at once*: read-outs refitted "
        "on what the dense model does. *refit*: read-outs refitted layer by layer. *State-OBS* by "
        "itself: input rows, read-outs and D refitted layer by layer. *Balanced truncation*: "
        "eigenvalues move as well, then all of that. *measured loss*: the budget shared out over "
        "layers by what cutting each alone was measured to do. *short fine-tune*: then a tenth of "
        "the recipe's epochs at a quarter of its rates, the epoch (none included) chosen on the "
        "validation split; *twice as long*: a fifth of them. *Hankel regularisation*: such a "
        "training before the cut, with the Hankel term of weight 0.3.",
        "",
        f"*auto* is what the pilot's default gives: of {', '.join(candidates)} the one that is "
        "best on the selection split at that ratio; with a short fine-tune, of the first two after "
        "theirs.",
    ]
    if missing:
        lines += ["", "Not measured, for want of time (–; the same command goes on from here):"]
        parts = Counter(item.partition(":")[0] for item in missing)
        lines += ["", "; ".join(f"{part}: {n} methods" for part, n in sorted(parts.items())) + "."]
    lines += ["", *_means(found), "", *_trained(found)]
    for task in found.tasks:
        lines += ["", *_task(found, task)]
    return "\n".join([*lines, "", *_choices(rows), "", *_rivals(found)]) + "\n"


def _trained(found: Results) -> list[str]:
    """Return rows that some tasks only were measured with, beside State-OBS on the same models."""
    lines = [
        "### On some tasks only",
        "",
        "Mean over these tasks and seeds, beside State-OBS on the same models and ratio.",
        "",
        "| method | ratio | tasks (seeds) | lost | State-OBS |",
        "|---" * 5 + "|",
    ]
    for method in found.methods:
        for ratio in found.ratios:
            tasks = [t for t in found.tasks if found.lost(t, method, ratio)]
            if not tasks or found.mean(method, ratio) is not None:
                continue
            both = [found.paired(task, method, ratio) for task in tasks]
            own, ours = (statistics.mean(pair[k] for pair in both) for k in (0, 1))
            counts = ", ".join(f"{t} ({len(found.lost(t, method, ratio))})" for t in tasks)
            lines.append(f"| {method} | {100 * ratio:g} % | {counts} | {own:.2f} | {ours:.2f} |")
    return lines if len(lines) > 6 else []


def _choices(rows: list[Row]) -> list[str]:
    """Return how often `auto` chose what."""
    counts = Counter((row["ratio"], row["chosen"]) for row in rows if row["method"] == AUTO)
    lines = ["### What auto chose", "", "| removed | chosen, times |", "|---|---|"]
    for ratio in sorted({ratio for ratio, _ in counts}):
        own = [f"{name} {n}" for (at, name), n in counts.most_common() if at == ratio]
        lines.append(f"| {100 * ratio:g} % | {', '.join(own)} |")
    return lines


def _header(found: Results, first: str) -> list[str]:
    columns = " | ".join(f"{100 * ratio:g} %" for ratio in found.ratios)
    return [f"| {first} | {columns} |", "|---" * (1 + len(found.ratios)) + "|"]


def _means(found: Results) -> list[str]:
    counts = ", ".join(f"{task} {len(found.seeds[task])}" for task in found.tasks)
    lines = ["### Mean over tasks", "", f"Training seeds: {counts}.", "", *_header(found, "method")]
    for method in found.methods:
        values = [found.mean(method, ratio) for ratio in found.ratios]
        cells = ["–" if value is None else f"{value:.2f}" for value in values]
        lines.append(f"| {method} | {' | '.join(cells)} |")
    return lines


def _task(found: Results, task: str) -> list[str]:
    dense = [
        100 * float(hits(found.rows[task, seed, "dense", 0.0]).mean()) for seed in found.seeds[task]
    ]
    count = len(found.rows[task, found.seeds[task][0], "dense", 0.0]["hits"])
    lines = [
        f"### {task}",
        "",
        f"Dense: {statistics.mean(dense):.2f} %, seeds {found.seeds[task]}; one of its {count} "
        f"test sequences is {100 / count:.2f} points.",
        "",
    ]
    lines += _header(found, "method")
    for method in found.methods:
        cells = []
        for ratio in found.ratios:
            own = found.lost(task, method, ratio)
            text = f"{statistics.mean(own):.2f} ({min(own):.1f} … {max(own):.1f})" if own else "–"
            cells.append(text)
        lines.append(f"| {method} | {' | '.join(cells)} |")
    return lines


def _rivals(found: Results) -> list[str]:
    lines = [
        "### Against LAST and AIRE at the same ratio",
        "",
        "Points by which State-OBS is better [95 % interval, in pairs over test sequences, seeds "
        "averaged]; **bold** where it is worse beyond the interval.",
    ]
    for rival in RIVALS:
        lines += ["", *_header(found, f"better than {rival} by")]
        for task in found.tasks:
            cells = []
            for ratio in found.ratios:
                against = found.against(task, rival, ratio)
                if against is None:
                    cells.append("–")
                    continue
                mean, low, high = against
                text = f"{mean:+.2f} [{low:+.2f}, {high:+.2f}]"
                cells.append(f"**{text}**" if high < 0 else text)
            lines.append(f"| {task} | {' | '.join(cells)} |")
    return lines


def summary(rows: list[Row]) -> dict[str, Any]:
    """Return the numbers the README quotes."""
    found = Results(rows)
    means = {
        f"{ratio:g}": {
            method: round(value, 3)
            for method in found.methods
            if (value := found.mean(method, ratio)) is not None
        }
        for ratio in found.ratios
    }
    worse = [
        f"{task} {ratio:g} {rival}"
        for task in found.tasks
        for ratio in found.ratios
        for rival in RIVALS
        if (against := found.against(task, rival, ratio)) is not None and against[2] < 0
    ]
    goals = {}
    for method, ratio, most in GOALS:
        tasks = [t for t in found.tasks if found.lost(t, method, ratio)]
        lost = [found.paired(task, method, ratio)[0] for task in tasks]
        goals[f"{method} at {ratio:g} within {most:g}"] = {
            "lost": round(statistics.mean(lost), 3) if lost else None,
            "seeds": {task: len(found.lost(task, method, ratio)) for task in tasks},
        }
    return {"points_lost": means, "worse_beyond_the_interval": worse, "goals": goals}
