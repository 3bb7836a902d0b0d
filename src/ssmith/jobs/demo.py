"""The demo: a pilot of every shipped model on the data it was trained for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ssmith.artefact import EMBEDDED, embedded_names, locate
from ssmith.core.errors import InputError
from ssmith.core.receipt import Receipt
from ssmith.jobs.pilot import PilotConfig, pilot
from ssmith.jobs.progress import Progress, silent
from ssmith.jobs.train import RECIPE, Recipe
from ssmith.report import write_index


# Coarser than a pilot's own default: the demo is to be watched, not waited for.
FRACTIONS = (0.15, 0.3, 0.45, 0.6, 0.75, 0.9)


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
        config: settings of every pilot; by default a coarse sweep and short timings.
        resume: go on with an interrupted demo.
        overwrite: throw away what is in ``out``.
        progress: told after each part.

    Returns:
        The page, and each model's receipt.

    Raises:
        InputError: if a model does not ship.
        OutputExistsError: if something is in the way.
    """
    settings = config or PilotConfig(fractions=FRACTIONS, speed_seconds=0.7)
    chosen = tuple(names) or embedded_names()
    unknown = sorted(set(chosen) - set(embedded_names()))
    if unknown:
        raise InputError(f"no embedded model {unknown[0]!r}", allowed=", ".join(embedded_names()))
    receipts = {}
    for name in chosen:
        spec = f"{EMBEDDED}{name}"
        data = Recipe.load(locate(spec) / RECIPE).data

        def told(stage: str, done: int, total: int, note: str = "", name: str = name) -> None:
            progress(f"{name}: {stage}", done, total, note)

        receipts[name] = pilot(
            spec,
            data,
            out / name,
            settings,
            resume=resume,
            overwrite=overwrite,
            command=("ssmith", "pilot", spec, "--data", data, "--out", str(out / name)),
            progress=told,
        )
    rows = [(name, out / name / "report.html", receipt) for name, receipt in receipts.items()]
    return write_index(rows, out), receipts
