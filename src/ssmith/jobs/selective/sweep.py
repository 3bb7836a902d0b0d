"""One setting of a pruning over several values, each measured on text it was not calibrated on."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssmith import artefact
from ssmith.artefact.configs import is_language_model, read_any_config
from ssmith.calibrate.blockwise import WalkConfig
from ssmith.core.errors import InputError, UnsupportedError
from ssmith.core.files import new_directory, refuse_existing, write_json, write_text
from ssmith.core.progress import Progress, part_of, silent
from ssmith.core.receipt import versions
from ssmith.evaluation import compare
from ssmith.jobs.selective.config import SelectiveConfig
from ssmith.jobs.selective.run import prune_selective_, vocabulary_of
from ssmith.jobs.selective.save import PruneTask
from ssmith.report.plot_sweep import sweep_plot

SWEEP = "sweep.json"
AXES = ("samples", "a-log", "columns", "projections", "width")
SPLIT = "selection"


@dataclass(frozen=True, kw_only=True)
class Axis:
    """A setting and the values it takes.

    Args:
        name: samples, a-log, columns, projections or width.
        values: in the order they are tried.
    """

    name: str
    values: tuple[float, ...]

    @classmethod
    def parse(cls, text: str) -> Axis:
        """Read ``samples=1,4,16,64``.

        Args:
            text: name, equals sign, numbers between commas.

        Returns:
            The axis.

        Raises:
            InputError: if the text is none.
        """
        name, _, rest = text.partition("=")
        try:
            values = tuple(float(item) for item in rest.split(",") if item.strip())
        except ValueError:
            values = ()
        whole = name != "samples" or all(value == int(value) >= 1 for value in values)
        if name not in AXES or not values or not whole:
            raise InputError(
                f"sweep {text!r}",
                allowed=f"NAME=VALUE,VALUE,… with NAME one of {', '.join(AXES)}",
                next_step="samples=1,4,16,64 shows how many samples it takes",
            )
        return cls(name=name, values=values)


def sweep(task: PruneTask, axis: Axis, *, progress: Progress = silent) -> dict[str, Any]:
    """Prune copies of a model over the values of one setting, and measure each.

    Args:
        task: everything else; with its ``out`` as the directory of the sweep, or None.
        axis: what varies.
        progress: listener.

    Returns:
        The rows, JSON-ready; also in ``sweep.json`` of the directory, with a plot and its data.

    Raises:
        InputError: if the sweep does not fit the task.
        DataError: if the text is too short.
    """
    if task.out is not None:
        refuse_existing(task.out, overwrite=task.overwrite)
    directory = artefact.locate(task.model)
    if not is_language_model(read_any_config(directory)):
        raise UnsupportedError(f"{task.model} is no language model", allowed="selective models")
    configs = [_changed(task, axis.name, value) for value in axis.values]
    dense: Any = artefact.load(directory)
    vocabulary = vocabulary_of(dense)
    text = task.calibration.text(directory, vocabulary)
    length = task.calibration.length
    held = text.windows(length, split=SPLIT).first(2 * task.calibration.samples)
    rows = []
    for number, (value, (config, samples)) in enumerate(zip(axis.values, configs, strict=True)):
        progress("sweep", number, len(configs), f"{axis.name} {value:g}")
        windows = text.sample(
            samples, length, seed=task.calibration.seed, split=task.calibration.split
        )
        model = copy.deepcopy(dense)
        walking = WalkConfig(batch_size=task.batch_size, kept_gb=task.kept_gb)
        inner = part_of(progress, "sweep", number, len(configs))
        done = prune_selective_(model, windows, config, walk_config=walking, progress=inner)
        found = compare(dense, model, held, seed=task.calibration.seed)
        rows.append(
            {
                "value": value,
                "perplexity": found.after.value,
                "increase": found.change.value,
                "low": found.change.low,
                "high": found.change.high,
                "stability": done.receipt.details["stability"],
            }
        )
    progress("sweep", len(configs), len(configs))
    content = {
        "axis": axis.name,
        "rows": rows,
        "dense": {"perplexity": found.before.value, "measured_on": held.describe()},
        "method": {**task.config.as_dict(), "command": list(task.command)},
        "calibration": dataclasses.asdict(task.calibration),
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
    with new_directory(out, overwrite=overwrite, marker=SWEEP) as scratch:
        write_json(scratch / SWEEP, content)
        write_text(scratch / f"{plot.name}.svg", plot.svg)
        write_text(scratch / f"{plot.name}.csv", plot.csv)


def _changed(task: PruneTask, name: str, value: float) -> tuple[SelectiveConfig, int]:
    """Return the configuration and the number of samples for one value."""
    config, samples = task.config, task.calibration.samples
    if name == "samples":
        return config, int(value)
    if name in ("a-log", "columns"):
        field = name.replace("-", "_")
        if getattr(config, field) is None:
            raise InputError(
                f"sweep over {name}, which is not cut",
                allowed=f"--{name} with any fraction beside the sweep",
            )
        change: dict[str, Any] = {field: value}
        return dataclasses.replace(config, **change), samples
    if config.projections is None:
        raise InputError(
            f"sweep over {name}, and no projection is cut",
            allowed="--projections with any fraction beside the sweep",
        )
    change = {"amount" if name == "projections" else "width": value}
    changed = dataclasses.replace(config.projections, **change)
    return dataclasses.replace(config, projections=changed), samples
