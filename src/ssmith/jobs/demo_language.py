"""The demo's language model: cut by SparseSSM, made smaller and recovered, adapted, compared."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ssmith.core.errors import InputError
from ssmith.core.progress import Progress
from ssmith.core.receipt import Receipt
from ssmith.data import PROSE_SPEC, ExamplesConfig
from ssmith.jobs.compare import CompareConfig, compare
from ssmith.jobs.outputs import RECEIPT
from ssmith.jobs.pilot import LanguagePilotConfig, pilot
from ssmith.jobs.pilot.frame import MODEL
from ssmith.jobs.source import RowsConfig
from ssmith.jobs.tuning import TuneConfig, fine_tune
from ssmith.report import write_report
from ssmith.tune.adapters import methods_of
from ssmith.tune.training import TrainingConfig

ADAPTER = "adapter"
OFFSETS = "state-offset-hy"
_ENTRIES = LanguagePilotConfig(
    cut="a_log",
    method="sparsessm",
    compensate=False,
    baselines=("gram-greedy",),
    fractions=(0.5, 0.75),
    samples=4,
    length=512,
    windows=16,
    test_windows=32,
    max_loss=0.05,
    speed_seconds=0.3,
)
_COLUMNS = dataclasses.replace(
    _ENTRIES,
    cut="columns",
    method="auto",
    compensate=True,
    baselines=("random",),
    fractions=(0.5,),
    recover=OFFSETS,
    recover_steps=16,
)


@dataclass(frozen=True, kw_only=True)
class LanguageDemo:
    """What the demo does with a language model.

    Args:
        entries: the pilot that cuts entries of A_log.
        columns: the pilot that cuts whole states.
        domain: the text the model is adapted to.
        examples: how that text becomes rows.
        training: how the adapter is trained.
        compared: on which windows the first and the last model are compared.
    """

    entries: LanguagePilotConfig = _ENTRIES
    columns: LanguagePilotConfig = _COLUMNS
    domain: str = PROSE_SPEC
    examples: ExamplesConfig = field(
        default_factory=lambda: ExamplesConfig(length=256, held_out=48)
    )
    training: TrainingConfig = field(
        default_factory=lambda: TrainingConfig(steps=40, batch_size=8, evaluate_every=20)
    )
    compared: CompareConfig = field(
        default_factory=lambda: CompareConfig(
            rows=RowsConfig(length=512, windows=32), speed_seconds=0.3
        )
    )


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Where the steps write, and how they start.

    Args:
        out: directory of the demo.
        resume: go on with what is there.
        overwrite: replace what is there.
        progress: told after each part.
    """

    out: Path
    resume: bool
    overwrite: bool
    progress: Progress

    def within(self, title: str) -> Progress:
        """Return a progress that names the step first."""

        def told(stage: str, done: float, total: int, note: str = "") -> None:
            self.progress(f"{title}: {stage}", done, total, note)

        return told


def show_language(
    spec: str, data: str, title: str, stage: Stage, config: LanguageDemo
) -> dict[str, Receipt]:
    """Cut a language model two ways, adapt the smaller one to another text, and compare.

    Args:
        spec: the model.
        data: the text it knows.
        title: first word of every step's name.
        stage: where it all goes.
        config: what is done.

    Returns:
        Step → receipt, in order; each step's directory holds its report.

    Raises:
        InputError: if the adapted text is the one the model knows.
    """
    if config.domain == data:
        raise InputError(f"the model knows {data} already", allowed="another text to adapt to")
    receipts = {}
    for name, settings in (("entries", config.entries), ("columns", config.columns)):
        step = f"{title}-{name}"
        receipts[step] = pilot(
            spec,
            data,
            stage.out / step,
            settings,
            resume=stage.resume,
            overwrite=stage.overwrite,
            command=pilot_command(spec, data, stage.out / step, settings),
            progress=stage.within(step),
        )
    cut = stage.out / f"{title}-columns" / MODEL
    # A gate that let nothing pass leaves no smaller model; the dense one is adapted then.
    base = str(cut) if cut.is_dir() else spec
    step = f"{title}-adapted"
    receipts[step] = _adapted(base, step, stage, config)
    adapter = stage.out / step / ADAPTER
    for text in (config.domain, data):
        step = f"{title}-on-{Path(text).stem.strip(':')}"
        receipts[step] = _compared((spec, str(adapter)), text, step, stage, config)
    return receipts


def _adapted(base: str, step: str, stage: Stage, config: LanguageDemo) -> Receipt:
    place = stage.out / step / ADAPTER
    if stage.resume and (place / RECEIPT).is_file():
        return Receipt.load(place / RECEIPT)
    training = config.training
    tuning = TuneConfig(
        methods=methods_of(OFFSETS),
        data=config.domain,
        examples=config.examples,
        training=training,
    )
    receipt = fine_tune(
        base,
        tuning,
        out=place,
        checkpoints=stage.out / step / "checkpoints",
        overwrite=stage.overwrite or stage.resume,
        command=(
            *("ssmith", "tune", base, "--method", OFFSETS, "--data", config.domain),
            *("--length", str(config.examples.length)),
            *("--held-out", str(config.examples.held_out), "--steps", str(training.steps)),
            *("--batch-size", str(training.batch_size), "--out", str(place)),
        ),
        progress=stage.within(step),
    ).receipt
    write_report(receipt, stage.out / step)
    return receipt


def _compared(
    models: tuple[str, str], text: str, step: str, stage: Stage, config: LanguageDemo
) -> Receipt:
    place, windows = stage.out / step, config.compared.rows
    receipt = compare(
        *models,
        text,
        config.compared,
        command=(
            *("ssmith", "compare", *models, "--data", text, "--length", str(windows.length)),
            *("--windows", str(windows.windows), "--out", str(place)),
        ),
        progress=stage.within(step),
    )
    receipt.save(place / RECEIPT)
    write_report(receipt, place)
    return receipt


def pilot_command(spec: str, data: str, place: Path, settings: object) -> Sequence[str]:
    """Return the command line of a pilot.

    Args:
        spec: the model.
        data: what it is measured on.
        place: where it writes.
        settings: its config; only what is not a default is said.

    Returns:
        The words.
    """
    words = ["ssmith", "pilot", spec, "--data", data, "--out", str(place)]
    for item in dataclasses.fields(settings):  # type: ignore[arg-type]
        value = getattr(settings, item.name)
        if value == item.default:
            continue
        if item.name == "compensate":
            words.append("--no-compensate")
            continue
        words.append("--" + item.name.replace("_", "-"))
        if isinstance(value, tuple):
            words.append(",".join(map(str, value)))
        elif value is not True:
            words.append(str(value))
    return words
