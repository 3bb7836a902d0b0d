"""The demo: every shipped model cut by the pilot, a language model adapted, and one page."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from ssmith.artefact import EMBEDDED, embedded_names, locate
from ssmith.core.errors import InputError
from ssmith.core.files import refuse_existing
from ssmith.core.names import unknown_name
from ssmith.core.progress import Progress, silent
from ssmith.core.receipt import Receipt
from ssmith.data import STDLIB_SPEC
from ssmith.jobs.demo_language import LanguageDemo, Stage, pilot_command, show_language
from ssmith.jobs.pilot import PilotConfig, pilot
from ssmith.jobs.source import reads_text
from ssmith.jobs.train import RECIPE, Recipe
from ssmith.report import write_index

# Coarser than a pilot's own default: the demo is to be watched, not waited for.
FRACTIONS = (0.15, 0.3, 0.45, 0.6, 0.75, 0.9)
SHOWN = ("digits-s5", "plaid-s5", "power-s4d")
"""The models of series that are shown unless others are named; language models all are."""
REFITTED = "digits-s5"
"""The model the demo also cuts by State-OBS, beside LAST and AIRE."""
INDEX = "index.html"


def demo(
    out: Path,
    *,
    names: Sequence[str] = (),
    config: PilotConfig | None = None,
    language: LanguageDemo | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: Progress = silent,
) -> tuple[Path, dict[str, Receipt]]:
    """Show on shipped models what ssmith does, and write one page that lists it.

    Models of series go through the pilot. A language model is cut by SparseSSM, made smaller and
    recovered by State-offset tuning, adapted to another text, and compared with what it was.

    Args:
        out: directory for one directory per step and ``index.html``.
        names: shipped models; if empty, some of series and all that read text.
        config: settings of every pilot on series; by default a coarse sweep and short timings,
            and one model is cut once more by State-OBS.
        language: what is done with language models.
        resume: go on with an interrupted demo.
        overwrite: replace what an earlier demo left in ``out``; anything else stays.
        progress: told after each part.

    Returns:
        The page, and each step's receipt.

    Raises:
        InputError: if a model does not ship, or none does.
        OutputExistsError: if something is in the way.
    """
    chosen = _chosen(names)
    texts = [name for name in chosen if reads_text(f"{EMBEDDED}{name}")]
    runs = _runs([name for name in chosen if name not in texts], config)
    refuse_existing(out / INDEX, overwrite=overwrite or resume)
    stage = Stage(out=out, resume=resume, overwrite=overwrite, progress=progress)
    receipts = {}
    for title, (name, settings) in runs.items():
        spec, place = f"{EMBEDDED}{name}", out / title
        data = str(Recipe.load(locate(spec) / RECIPE).data)
        receipts[title] = pilot(
            spec,
            data,
            place,
            settings,
            resume=resume,
            overwrite=overwrite,
            command=pilot_command(spec, data, place, settings),
            progress=stage.within(title),
        )
    for name in texts:
        spec = f"{EMBEDDED}{name}"
        known = Recipe.load(locate(spec) / RECIPE).texts()
        data = known.held_out or known.text or STDLIB_SPEC
        receipts |= show_language(spec, data, name, stage, language or LanguageDemo())
    rows = [(title, out / title / "report.html", receipt) for title, receipt in receipts.items()]
    return write_index(rows, out, title="ssmith demo"), receipts


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
        raise unknown_name(f"no embedded model {unknown[0]!r}", unknown[0], there)
    few = [name for name in there if name in SHOWN or reads_text(f"{EMBEDDED}{name}")]
    return tuple(dict.fromkeys(names)) or tuple(few) or there
