"""Chosen settings beside recipes: `ssmith train --data FILE --task …` on every reference task.

For three training seeds, what is chosen from the training rows alone is trained and measured on the
test rows on which the recipe that ships was measured (`make bench-lti`, `make bench-domains`). The
family is the default, whatever the recipe has. What is measured is kept until the choice itself is
changed, and a killed run goes on there. Quick: one task, one seed.
"""

from __future__ import annotations

import argparse
import hashlib
import statistics
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from domains import CACHE, DOMAINS, RECIPES, SEEDS, Kept, laid_out, value_of
from record import RESULTS, record
from ssmith import api
from ssmith.core.files import read_json, write_text
from ssmith.core.words import number_of
from ssmith.jobs.train import ChoiceConfig, Recipe, TrainingRows, chosen_recipe, rows_for, train
from trained import names, recipe_of

CELLS = CACHE.parent / "defaults"
CHOICE = Path(chosen_recipe.__code__.co_filename)
ERRORS = ("demand",)
"""Tasks measured by an error, in the units of what is forecast; all others by accuracy."""
QUICK = "power-s4d"
Row = dict[str, Any]


def recipes() -> dict[str, Recipe]:
    """Return the recipe of every reference task, by its name."""
    found = {name: recipe_of(name) for name in names()}
    for domain in DOMAINS:
        recipe = Recipe.load(RECIPES / f"{domain.recipe}.json")
        found[domain.recipe] = replace(recipe, data=str(CACHE / str(recipe.data)))
    return found


def shipped() -> dict[tuple[str, int], float]:
    """Return what the recipes reach, by task and seed."""
    found = {
        (row["task"], row["seed"]): row["dense"]
        for row in read_json(RESULTS / "lti.json")["quality"]
    }
    for row in read_json(RESULTS / "domains.json")["rows"]:
        if row["kind"] == "dense":
            found[row["task"], row["seed"]] = row["source"]
    return found


def rows_of(recipe: Recipe) -> TrainingRows:
    """Return the rows of a recipe with all their splits."""
    found = rows_for(recipe)
    if recipe.prepare is not None:
        return found
    return replace(found, data=api.load_data(str(recipe.data)))


def measure(recipe: Recipe, read: TrainingRows, seed: int) -> Row:
    """Choose, train and measure."""
    chosen = chosen_recipe(str(recipe.data), read.data, read.preparation, ChoiceConfig(), seed=seed)
    done = train(chosen, seed=seed, rows=read)
    looks, steps = len(done.training.looks), done.training.steps
    return {
        "value": value_of(done.model, read.data.split("test"), read.preparation),
        "parameters": sum(item.numel() for item in done.model.parameters()),
        "epochs": looks,
        "best_epoch": done.training.best_step * looks // steps,
        "model": chosen.model,
        "fit": chosen.fit,
    }


def kept(task: str) -> Kept:
    """Return what was measured of a task with the choice as it is now."""
    version = hashlib.sha256(CHOICE.read_bytes()).hexdigest()[:10]
    return Kept(CELLS / version / f"{task}.json")


def measured(task: str, recipe: Recipe, seeds: tuple[int, ...], cells: Kept) -> list[Row]:
    """Measure what is not kept of a task; return all of it."""
    read: list[TrainingRows] = []

    def cell(seed: int) -> Row:
        # Read only where something is missing.
        if not read:
            read.append(rows_of(recipe))
        return measure(recipe, read[0], seed)

    for seed in seeds:
        cells.once({"task": task, "seed": seed}, partial(cell, seed))
    return cells.rows


def compared(rows: list[Row]) -> list[Row]:
    """Return a line for each task: both means, and how far the chosen settings are behind."""
    found, reached = [], shipped()
    for task in dict.fromkeys(row["task"] for row in rows):
        own = [row for row in rows if row["task"] == task]
        ours = [row["value"] for row in own]
        theirs = [reached[task, row["seed"]] for row in own]
        error = task in ERRORS
        behind = statistics.mean(ours) - statistics.mean(theirs)
        found.append(
            {
                "task": task,
                "seeds": [row["seed"] for row in own],
                "chosen": ours,
                "recipe": theirs,
                "unit": "error" if error else "points",
                "behind": behind if error else -100 * behind,
                "parameters": own[0]["parameters"],
                "cpu_seconds": statistics.mean(row["cpu_seconds"] for row in own),
            }
        )
    return found


def shown(values: list[float], unit: str) -> str:
    scale = 1 if unit == "error" else 100
    found = [scale * value for value in values]
    return f"{statistics.mean(found):.1f} ({min(found):.1f} … {max(found):.1f})"


def table(lines: list[Row], lacking: list[str]) -> str:
    """Render as Markdown, the tasks that lose most first."""
    text = [
        "Accuracy in percent on test rows, or the mean absolute error of `demand`; mean (smallest "
        "… largest) over training seeds, three unless it says less. *Behind*: how much worse the "
        "chosen settings are; negative: better. Bold: by more than a point.",
        "",
        "| task | chosen from the data | the recipe | behind | numbers | seconds of one core |",
        "|---|---|---|---|---|---|",
    ]
    for line in sorted(lines, key=lambda line: -line["behind"]):
        name = f"**{line['task']}**" if line["behind"] > 1 else line["task"]
        fewer = len(line["seeds"])
        name += f" ({number_of(fewer, 'seed')})" if fewer < len(SEEDS) else ""
        text.append(
            f"| {name} | {shown(line['chosen'], line['unit'])} | "
            f"{shown(line['recipe'], line['unit'])} | {line['behind']:.1f} | "
            f"{line['parameters']:,} | {line['cpu_seconds']:.0f} |"
        )
    text += ["", f"Not measured: {', '.join(lacking)}."] if lacking else []
    return "\n".join(text) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--tasks", default="", help="names of recipes; all if empty")
    parser.add_argument("--seeds", default="0,1,2", help="training seeds")
    options = parser.parse_args()
    torch.set_num_threads(1)
    known = recipes()
    if options.quick:
        lines = compared(measured(QUICK, known[QUICK], SEEDS[:1], Kept(None)))
    else:
        tasks = options.tasks.split(",") if options.tasks else list(known)
        laid_out(tuple(domain for domain in DOMAINS if domain.recipe in tasks))
        for task in tasks:
            measured(task, known[task], tuple(map(int, options.seeds.split(","))), kept(task))
        rows = [row for task in known for row in kept(task).rows]
        lines = compared(rows)
        lacking = [task for task in known if task not in [row["task"] for row in rows]]
        write_text(RESULTS / "defaults.md", table(lines, lacking))
    behind = {line["task"]: round(line["behind"], 2) for line in lines}
    record("defaults", {"tasks": lines}, {"behind": behind}, quick=options.quick)


if __name__ == "__main__":
    main()
