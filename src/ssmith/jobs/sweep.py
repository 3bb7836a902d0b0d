"""One setting of a pruning over several values, each measured on text it was not calibrated on."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssmith import artefact, spine, surgery
from ssmith.artefact.configs import is_language_model, read_any_config
from ssmith.artefact.tuned import lineage
from ssmith.core.budget import Budget
from ssmith.core.directories import new_directory, refuse_existing
from ssmith.core.errors import InputError, UnsupportedError
from ssmith.core.files import write_json, write_text
from ssmith.core.progress import Progress, part_of, silent
from ssmith.core.receipt import versions
from ssmith.core.settings import to_mapping
from ssmith.evaluation import compare
from ssmith.jobs.merge import whole
from ssmith.jobs.prune import PruneTask
from ssmith.jobs.source import WINDOWS
from ssmith.report import check_extras
from ssmith.report.plot_sweep import sweep_plot

SWEEP = "sweep.json"
SAMPLES = "samples"
SPLIT = "selection"


@dataclass(frozen=True, kw_only=True)
class SweptAxis:
    """A setting, ``samples`` or a unit that is cut, and the values it takes, in their order."""

    name: str
    values: tuple[float, ...]

    @classmethod
    def parse(cls, text: str) -> SweptAxis:
        """Read ``samples=1,4,16,64``."""
        name, _, rest = text.partition("=")
        try:
            values = tuple(float(item) for item in rest.split(",") if item.strip())
        except ValueError:
            values = ()
        whole = name != SAMPLES or all(value == int(value) >= 1 for value in values)
        if not name or not values or not whole:
            raise InputError(
                f"sweep {text!r}",
                allowed="NAME=VALUE,VALUE,… with NAME samples, or a unit that is cut",
                next_step="samples=1,4,16,64 shows how many samples it takes",
            )
        return cls(name=name, values=values)


def sweep(task: PruneTask, axis: SweptAxis, *, progress: Progress = silent) -> dict[str, Any]:
    """Prune copies of a model over the values of one setting, and measure each.

    ``task.out`` is the directory of the sweep, or None. The rows also stand in its ``sweep.json``,
    with a plot and its data.
    """
    if task.out is not None:
        refuse_existing(task.out, overwrite=task.overwrite)
        check_extras()
    directory = lineage(artefact.locate(task.model))[-1]
    if not is_language_model(read_any_config(directory)):
        raise UnsupportedError(f"{task.model} is no language model", allowed="language models")
    calibration = task.config.calibration
    samples = WINDOWS if calibration.samples is None else calibration.samples
    settings = [_changed(task, axis.name, value, samples) for value in axis.values]
    dense: Any = whole(task.model).model
    text = calibration.text(directory, dense.config.vocab_size)
    held = text.windows(calibration.tokens, split=SPLIT).first(2 * samples)
    rows = []
    for number, (value, (budgets, count)) in enumerate(zip(axis.values, settings, strict=True)):
        progress("sweep", number, len(settings), f"{axis.name} {value:g}")
        windows = text.sample(
            count, calibration.tokens, seed=calibration.seed, split=calibration.split
        )
        inner = part_of(progress, "sweep", number, len(settings))
        plan = spine.plan(dense, budgets, windows, run=task.config.run(None), progress=inner)
        model = copy.deepcopy(dense)
        surgery.prune_(model, plan, task.config.mode)
        found = compare(dense, model, held, seed=calibration.seed)
        rows.append(
            {
                "value": value,
                "perplexity": found.after.value,
                "increase": found.change.value,
                "low": found.change.low,
                "high": found.change.high,
                "stability": plan.facts.get("stability", {}),
            }
        )
    progress("sweep", len(settings), len(settings))
    content = {
        "axis": axis.name,
        "rows": rows,
        "dense": {"perplexity": found.before.value, "measured_on": to_mapping(held.describe())},
        "cuts": [budget.as_dict() for budget in task.config.cuts],
        "command": list(task.command),
        "calibration": dataclasses.asdict(calibration),
        "versions": versions(),
    }
    if task.out is not None:
        _write(task.out, content, axis.name, rows, overwrite=task.overwrite)
    return content


def _write(
    out: Path, content: dict[str, Any], axis: str, rows: Sequence[dict[str, Any]], *,
    overwrite: bool,
) -> None:  # fmt: skip
    plot = sweep_plot(axis, rows)
    with new_directory(out, overwrite=overwrite) as scratch:
        write_json(scratch / SWEEP, content)
        write_text(scratch / f"{plot.name}.svg", plot.svg)
        write_text(scratch / f"{plot.name}.csv", plot.csv)


def _changed(
    task: PruneTask, name: str, value: float, samples: int
) -> tuple[tuple[Budget, ...], int]:
    """Return the budgets and the number of samples for one value."""
    if name == SAMPLES:
        return task.config.cuts, int(value)
    units = [budget.unit for budget in task.config.cuts]
    if name not in units:
        raise InputError(
            f"sweep over {name}, which is not cut", allowed=", ".join([SAMPLES, *units])
        )
    amount = value if value < 1 else int(value)
    changed = tuple(
        dataclasses.replace(budget, sparsity=amount) if budget.unit == name else budget
        for budget in task.config.cuts
    )
    return changed, samples
