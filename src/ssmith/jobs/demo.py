"""The demo: a pilot of every shipped model on the data it was trained for, and one refitted."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from ssmith.artefact import EMBEDDED, embedded_names, locate
from ssmith.core.errors import InputError
from ssmith.core.files import refuse_existing
from ssmith.core.receipt import Receipt
from ssmith.jobs.pilot import PilotConfig, pilot
from ssmith.jobs.progress import Progress, silent
from ssmith.jobs.train import RECIPE, Recipe
from ssmith.report import write_index

# Coarser than a pilot's own default: the demo is to be watched, not waited for.
FRACTIONS = (0.15, 0.3, 0.45, 0.6, 0.75, 0.9)
REFITTED = "digits-s5"
"""The model the demo also cuts by State-OBS, beside LAST and AIRE."""
INDEX = "index.html"


def demo(
    out: Path,
    *,
    names: Sequence[str] = (),
    config: PilotConfig | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: Progress = silent,
) -> tuple[Path, dict[str, Receipt]]:
    """Run the pilot on shipped models and write one page that lists them.

    Args:
        out: directory for one pilot per model and ``index.html``.
        names: shipped models; all if empty.
        config: settings of every pilot; by default a coarse sweep and short timings, and one
            model is cut once more by State-OBS.
        resume: go on with an interrupted demo.
        overwrite: replace what an earlier demo left in ``out``; anything else stays.
        progress: told after each part.

    Returns:
        The page, and each model's receipt.

    Raises:
        InputError: if a model does not ship, or none does.
        OutputExistsError: if something is in the way.
    """
    runs = _runs(_chosen(names), config)
    refuse_existing(out / INDEX, overwrite=overwrite or resume)
    receipts = {}
    for title, (name, settings) in runs.items():
        spec, place = f"{EMBEDDED}{name}", out / title
        data = Recipe.load(locate(spec) / RECIPE).data

        def told(stage: str, done: int, total: int, note: str = "", title: str = title) -> None:
            progress(f"{title}: {stage}", done, total, note)

        receipts[title] = pilot(
            spec,
            data,
            place,
            settings,
            resume=resume,
            overwrite=overwrite,
            command=(
                *("ssmith", "pilot", spec, "--data", data, "--out", str(place)),
                *_flags(settings),
            ),
            progress=told,
        )
    rows = [(title, out / title / "report.html", receipt) for title, receipt in receipts.items()]
    return write_index(rows, out), receipts


def _runs(names: Sequence[str], config: PilotConfig | None) -> dict[str, tuple[str, PilotConfig]]:
    """Return what to run: title → shipped model and settings."""
    if config is not None:
        return {name: (name, config) for name in names}
    settings = PilotConfig(method="last", fractions=FRACTIONS, speed_seconds=0.7)
    runs = {name: (name, settings) for name in names}
    if REFITTED in names:
        runs[f"{REFITTED}-state-obs"] = (
            REFITTED,
            dataclasses.replace(
                settings,
                method="state-obs",
                baselines=("last", "aire", "random"),
                fractions=(0.6, 0.7, 0.8, 0.9),
            ),
        )
    return runs


def _chosen(names: Sequence[str]) -> tuple[str, ...]:
    there = embedded_names()
    if not there:
        raise InputError("no model ships with this installation", next_step="install it again")
    unknown = sorted(set(names) - set(there))
    if unknown:
        raise InputError(f"no embedded model {unknown[0]!r}", allowed=", ".join(there))
    return tuple(dict.fromkeys(names)) or there


def _flags(config: PilotConfig) -> list[str]:
    """Return the flags of ``ssmith pilot`` for every setting that is not its default."""
    words = []
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        if value != item.default:
            words.append("--" + item.name.replace("_", "-"))
            if isinstance(value, tuple):
                words.append(",".join(map(str, value)))
            elif value is not True:
                words.append(str(value))
    return words
