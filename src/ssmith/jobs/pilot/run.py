"""The pilot, stage by stage: sweep, cut, prove, compare, judge, report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from ssmith import api
from ssmith.core.budget import AUTO
from ssmith.core.curve import Curve
from ssmith.core.details import CutDetails
from ssmith.core.errors import InputError
from ssmith.core.files import write_text
from ssmith.core.launch import refuse_processes
from ssmith.core.progress import Progress, part_of, silent
from ssmith.core.receipt import RECEIPT, Receipt, versions
from ssmith.core.sections import MethodSection, TaskQuality
from ssmith.core.sequences import Sequences
from ssmith.core.settings import to_mapping
from ssmith.core.threshold import Threshold
from ssmith.evaluation import (
    Comparison,
    Estimate,
    Evidence,
    OwnComparison,
    Task,
    answers_of_own,
    compare_own,
    estimate_saving,
    judge,
)
from ssmith.evaluation.harness import check_harness, compare_tasks, run_tasks
from ssmith.evaluation.naive import scale_of
from ssmith.evaluation.recall import compare_recall, recall_section
from ssmith.families import model_digest
from ssmith.jobs.outputs import RECIPE, refuse_own_input
from ssmith.jobs.pilot.config import PilotConfig
from ssmith.jobs.pilot.costs import measure_costs
from ssmith.jobs.pilot.cut import AUTO_WITHOUT_DATA, Cutter, Made
from ssmith.jobs.pilot.directory import RunDirectory
from ssmith.jobs.pilot.parity import parity_of
from ssmith.jobs.pilot.record import Judged, nothing_fits, without_data
from ssmith.jobs.pilot.recovery import recovery_of
from ssmith.jobs.pilot.saving import MODEL, kept_words, save_cut
from ssmith.jobs.pilot.subject import Data, Subject, open_subject
from ssmith.jobs.pilot.sweep import Sweep
from ssmith.jobs.recall import recall_texts_of
from ssmith.jobs.source import one_batch, tokenizer_for
from ssmith.report import check_extras, write_report


def pilot(
    model: str | nn.Module,
    data: Data,
    out: str | Path,
    config: PilotConfig | None = None,
    task: Task | None = None,
    *,
    name: str = "",
    resume: bool = False,
    overwrite: bool = False,
    command: Sequence[str] = (),
    recipe: str = "",
    progress: Progress = silent,
) -> Receipt:
    """Find the largest cut within a tolerance, make it, prove it, judge it and report it.

    Calibrated on the training split, chosen on the selection split and judged on the test split,
    which nothing else looks at. Leaves ``receipt.json``, ``report.html``, ``plots/``,
    ``plan.json``, ``model/`` and the intermediate results in ``stages/``. A killed run that is
    resumed ends with the same bytes.

    Args:
        model: a directory, a hub id or ``embedded:NAME``; or any network in memory.
        data: ``embedded:NAME`` or a file, for a language model a text (see `ssmith.load_text`);
            loaded data; or rows of your own by split: ``{"calibration": …, "selection": …,
            "test": …}``, each anything `ssmith.rows` takes.
        out: directory for everything.
        config: what to try and what to accept.
        task: what good means, for rows of your own; the usual one if None.
        name: what to call a network in memory.
        resume: go on with an interrupted run in ``out``.
        overwrite: throw away an earlier pilot in ``out``.
        command: the command line to repeat it, for the receipt.
        recipe: the settings to repeat it, as ``recipe.yaml`` holds them.
        progress: told after each part.

    Returns:
        The receipt; ``verdict.accepted`` says how it went.

    Raises:
        SsmithError: for bad input; nothing is written then.
    """
    refuse_processes("a pilot")
    directory, settings = RunDirectory(Path(out)), config or PilotConfig()
    _refuse_early(directory.out, model, data, settings)
    subject = open_subject(model, data, settings, task, name)
    settings.check_kind(text=subject.reads_text, sequences=subject.reads_sequences)
    check_harness(settings.harness())
    cutter = _cutter_of(subject, settings)
    settings = cutter.config
    subject = replace(subject, config=settings)
    recovery = recovery_of(subject, settings, directory, progress)
    about, found, seen = subject.about(), versions(), subject.rows(cutter.calibration)
    if recovery is not None:
        seen = replace(seen, recovery=recovery.learned, recovery_validation=recovery.validated)
    identity = {
        "model": {"name": about.name, "digest": about.digest_before},
        "data": to_mapping(seen),
        "config": settings.as_dict(),
        "versions": found,
    }
    # A run killed before its first file was whole has left no command: the resumed one counts.
    words = [word for word in command if word != "--resume"]
    first = directory.open(identity, words, resume=resume, overwrite=overwrite)

    def measure(cut: nn.Module) -> Estimate:
        return api.evaluate(
            cut, subject.selection, subject.task, seed=settings.seed, batch_size=settings.batch_size
        )

    sweep = Sweep(
        subject=subject,
        cutter=cutter,
        recovery=recovery,
        directory=directory,
        measure=measure,
        own=settings.own(),
        progress=progress,
    )
    curve = sweep.run()
    receipt = Receipt(
        action="pilot",
        model=about,
        method=MethodSection(
            criterion={"name": settings.method},
            mode="shrink",
            max_loss=settings.max_loss,
            command=tuple(first),
            config=settings.as_dict(),
        ),
        seed=settings.seed,
        versions=found,
        data=seen,
        findings=(*curve.failed(), *without_data(settings)),
        details=CutDetails(curve=curve),
    )
    if curve.point is None:
        refused = Judged(verdict=nothing_fits(curve))
        receipt = directory.cached("measured", Judged, lambda: refused).written(receipt)
    else:
        receipt = _Run(sweep=sweep).cut_and_judge(curve, receipt)
    receipt.save(directory.out / RECEIPT)
    write_report(receipt, directory.out)
    if recipe:
        write_text(directory.out / RECIPE, recipe)
    directory.close()
    progress("report", 1, 1)
    return receipt


def _refuse_early(out: Path, model: object, data: object, config: PilotConfig) -> None:
    """Refuse what can be refused before the first file and any long work."""
    check_extras()
    files = [item for item in (model, data) if isinstance(item, str)]
    files += [name for name in config.lm_eval if Path(name).exists()]
    if config.own_metric is not None:
        files.append(config.own_metric.rpartition(":")[0])
    refuse_own_input(out, *files)


def _cutter_of(subject: Subject, config: PilotConfig) -> Cutter:
    """Return what cuts, with all settings resolved and checked."""
    config.own()
    metric = subject.task.metric
    if subject.own_task is not None and config.max_loss is None:
        raise InputError(
            f"nothing says how much {metric.name} may be lost",
            allowed="max_loss such as '1 %' of the metric, or '2 absolute' in its own unit",
            next_step="give PilotConfig(max_loss=…)",
        )
    cutter = Cutter(dense=subject.model, calibration=None, config=config)
    if cutter.fitted and config.method.strip().lower() == AUTO and not subject.can_calibrate:
        config = replace(config, method=AUTO_WITHOUT_DATA)
    sparsities, baselines = cutter.usual()
    config = config.resolved(
        metric,
        text=subject.reads_text,
        fitted=cutter.fitted,
        sparsities=sparsities,
        baselines=baselines,
    )
    # A unit that says nothing of this metric is refused before any work.
    Threshold.read(config.max_loss).said(scale_of(metric, None, None))
    cutter = Cutter(dense=subject.model, calibration=None, config=config)
    calibration = None
    if subject.can_calibrate and any(map(cutter.needs_rows, cutter.methods().values())):
        calibration = subject.source.sample(
            config.samples or 1, config.length or 0, seed=config.seed
        )
    cutter.calibration = calibration
    cutter.check()
    return cutter


@dataclass(frozen=True, kw_only=True)
class _Run:
    """The part of a pilot behind the choice."""

    sweep: Sweep

    @property
    def config(self) -> PilotConfig:
        return self.sweep.cutter.config

    def cut_and_judge(self, curve: Curve, receipt: Receipt) -> Receipt:
        """Cut, save, check, measure and judge; return a receipt that says it as well."""
        sweep, out, point = self.sweep, self.sweep.directory.out, curve.point
        inner = part_of(sweep.progress, "cut", 0, 1)
        made, left, recovered = sweep.cut(
            curve.method,
            0.0 if point is None else point.sparsity,
            inner,
            recovered=point is not None and point.recovered,
        )
        made.plan.save(out)
        # Written anew also by a resumed run: the same bytes, and never half of them.
        subject = sweep.subject
        digest = subject.digest or made.plan.model_digest
        save_cut(left, made, out / MODEL, name=subject.name, digest=digest)
        sweep.progress("cut", 1, 1, kept_words(made))
        judged = sweep.directory.cached("measured", Judged, lambda: self._judged(made, left))
        sweep.progress("compare", 1, 1, judged.verdict.headline)
        receipt = judged.written(receipt)
        return replace(
            receipt,
            model=replace(receipt.model, digest_after=model_digest(left)),
            method=replace(
                made.method,
                max_loss=receipt.method.max_loss,
                command=receipt.method.command,
                config=receipt.method.config,
                recovery={} if recovered is None else recovered.as_dict(),
            ),
            removed=made.done.removed,
            findings=(*made.done.findings, *receipt.findings),
            details=replace(receipt.cut, layers=made.layers),
        )

    def _judged(self, made: Made, left: nn.Module) -> Judged:
        sweep, subject, config = self.sweep, self.sweep.subject, self.config
        saved = sweep.directory.out / MODEL
        parity = parity_of(made, left, saved, subject)
        sweep.progress("parity", 1, 1)
        costs = measure_costs(
            (subject.model, left),
            (subject.place, saved),
            one_batch(subject.selection, config.batch_size or 1),
            config.speed(),
        )
        sweep.progress("speed", 1, 1)
        comparison, own = self._compared(left)
        recall = self._recalled(left)
        evidence = Evidence(
            comparison=comparison,
            recall=recall,
            parity=parity,
            changes=costs.changes(),
            removed=made.done.removed,
            own=own,
            copies=" ".join(item.message for item in subject.source.copies()),
        )
        return Judged(
            quality=replace(
                comparison.section(split="test"),
                own=None if own is None else own.section(),
                recall=recall_section(recall, config.recall_length),
                lm_eval=self._tasks(left),
            ),
            parity=parity.section(),
            speed=costs.speed.section(),
            memory=costs.memory.section(),
            size=costs.size,
            findings=(
                *subject.source.findings(),
                *comparison.findings(),
                *costs.speed.findings(),
            ),
            saving=estimate_saving(
                config.load(),
                per_sequence=costs.speed.per_sequence,
                batch_size=costs.speed.batch_size,
                path=costs.speed.path,
                sure=costs.speed.per_batch.sure,
            ),
            verdict=judge(evidence, config.limits()),
        )

    def _compared(self, left: nn.Module) -> tuple[Comparison, OwnComparison | None]:
        """Compare on the test split; nothing before this looks at it."""
        sweep, config, own = self.sweep, self.config, None
        subject = sweep.subject
        comparison = api.compare(
            subject.model,
            left,
            subject.test,
            subject.task,
            seed=config.seed,
            batch_size=config.batch_size,
        )
        if sweep.own is not None and isinstance(subject.test, Sequences):
            size = config.batch_size or 1
            before, y = answers_of_own(subject.model, subject.test, size)
            after, _ = answers_of_own(left, subject.test, size)
            own = compare_own(sweep.own, before, after, y, seed=config.seed)
        return comparison, own

    def _recalled(self, left: nn.Module) -> dict[str, Comparison]:
        """Compare what the model and the cut recall; nothing where they read no text."""
        subject, config = self.sweep.subject, self.config
        rows = recall_texts_of(
            subject.model, subject.name, subject.source, "test", config=config, seed=config.seed
        )
        found = compare_recall(
            subject.model, left, rows, seed=config.seed, batch_size=config.batch_size
        )
        if found:
            self.sweep.progress("recall", 1, 1)
        return found

    def _tasks(self, left: nn.Module) -> tuple[TaskQuality, ...]:
        """Return what both models make of lm-eval's tasks; nothing where none is asked for."""
        harness, subject = self.config.harness(), self.sweep.subject
        if harness is None:
            return ()
        tokenizer = tokenizer_for(subject.model, subject.name)
        before, after = (run_tasks(item, tokenizer, harness) for item in (subject.model, left))
        self.sweep.progress("lm-eval", 1, 1)
        return compare_tasks(before, after, self.config.seed)
