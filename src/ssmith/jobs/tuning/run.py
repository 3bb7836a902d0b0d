"""The tuning job: load, attach, train, judge, save."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ssmith import api
from ssmith.core.errors import InputError, UnsupportedError
from ssmith.core.launch import is_main_process
from ssmith.core.progress import Progress, silent
from ssmith.core.running import evaluating
from ssmith.core.sections import JudgedAnswers, TunedQuality
from ssmith.core.settings import to_mapping
from ssmith.core.tokenizer import Tokenizer
from ssmith.evaluation import OwnMetric, in_own_units
from ssmith.evaluation.generation import GenerationConfig
from ssmith.families.heads import TaskModel
from ssmith.jobs.tuning.choice import choose
from ssmith.jobs.tuning.config import TuneConfig
from ssmith.jobs.tuning.judging import answer, check_judge, compare_measures, judged_own
from ssmith.jobs.tuning.learning import Lesson, learn_
from ssmith.jobs.tuning.record import Tuned
from ssmith.jobs.tuning.start import Job, prepared
from ssmith.tune import adapters
from ssmith.tune.adapters.merge import HELD, check_mergeable
from ssmith.tune.training import (
    AnswerObjective,
    Own,
    row_answers,
    row_measures,
)
from ssmith.tune.training.checkpoint import check_place

NAME = "default"
LAST = "last.safetensors"
WARM_UP = "warm-up.safetensors"


def fine_tune(
    spec: str | Path,
    config: TuneConfig,
    *,
    out: Path | None = None,
    checkpoints: Path | None = None,
    overwrite: bool = False,
    command: Sequence[str] = (),
    progress: Progress = silent,
) -> Tuned:
    """Tune a model, keep what validates best, judge it on the test split, and save the adapter.

    Killed at any point and called again with the same ``checkpoints``, it goes on where it was and
    ends with the same weights. Under ``torchrun`` each process takes its share and the first one
    saves.

    Args:
        spec: directory, hub id or ``embedded:NAME`` of the base model, pruned or not.
        config: see `TuneConfig`.
        out: directory of the adapter, or of the merged model, to make; None to save nothing.
        checkpoints: directory of checkpoints; None for none.
        overwrite: replace an adapter that is there.
        command: the command line, for the receipt.
        progress: told how far it is.

    Returns:
        The tuned model and the record.

    Raises:
        InputError: if a setting, target or rate has no meaning for the model.
        DataError: if the data does not fit.
        UnsupportedError: if a method is not defined for the model.
        NumericalError: if a loss is not finite.
    """
    if checkpoints is not None:
        for name in (LAST, WARM_UP):
            check_place(checkpoints / name)
    own = config.own()
    job = prepared(spec, config)
    config.check_own(answers=isinstance(job.data.objective, AnswerObjective))
    few = job.data.objective.collate(job.data.rows["train"][:2])
    batch = {name: value for name, value in few.items() if name not in ("labels", "target")}
    lesson = Lesson(
        data=job.data,
        training=config.training,
        published=config.published,
        identity={
            "base": job.digest,
            "settings": to_mapping(config),
            "from": None if job.start is None else job.start.sha256,
            **config.own_facts(),
        },
        checkpoint=_file(checkpoints, LAST),
        warm_up=_file(checkpoints, WARM_UP),
        own=None if own is None else _scored(own, job.model),
        progress=progress,
    )
    methods, choice = choose(job.model, job.methods, lesson, checkpoints)
    report = adapters.attach_(
        job.model,
        methods,
        name=NAME,
        allow_partial=config.allow_partial,
        batch=batch,
        seed=config.training.seed,
    )
    if job.start is not None:
        adapters.load_state_(job.model, NAME, job.start.tensors)
    _check_merge(job, config)
    _check_answers(job, config)
    training, rates = learn_(job.model, NAME, lesson)
    report = adapters.recounted(job.model, report)
    tuned = Tuned(
        model=job.model,
        spec=str(spec),
        digest=job.digest,
        config=config,
        command=command,
        report=report,
        choice=choice,
        training=training,
        rates=rates,
        data=job.data.about,
        shared=job.data.findings,
        quality=TunedQuality(why_null="judging did not end; the adapter is whole"),
        merged=None,
        start=None if job.start is None else job.start.as_dict(),
    )
    target = out if is_main_process() else None
    if target is not None:
        # Before anything is judged: what was trained outlives whatever goes wrong there.
        _save(job, tuned, target, overwrite=overwrite)
    quality = _judge(job, config)
    if config.generation is not None and job.data.tokenizer is not None:
        written = _answers(job, job.data.tokenizer, config.generation, config.judged, progress)
        quality = dataclasses.replace(quality, answers=written)
    merged = None
    if config.merge is not None:
        merged = adapters.merge_(job.model, NAME, hold=config.merge == HELD, batch=batch)
    tuned = dataclasses.replace(tuned, quality=quality, merged=merged)
    if target is not None:
        _save(job, tuned, target, overwrite=True)
    return tuned


def _check_merge(job: Job, config: TuneConfig) -> None:
    """Refuse a merge that is not possible before anything is trained."""
    if config.merge is None:
        return
    if isinstance(job.model, TaskModel):
        raise UnsupportedError(
            "merge with a new head on a language model: its files hold no such head",
            allowed="language modelling, or S5 and S4D models",
            next_step="leave merge out: the adapter keeps head and base together",
        )
    check_mergeable(job.model, NAME, hold=config.merge == HELD)


def _save(job: Job, tuned: Tuned, out: Path, *, overwrite: bool) -> None:
    """Save the adapter, or the model it was merged into."""
    if tuned.merged is None:
        api.save_adapter(
            job.model,
            out,
            name=NAME,
            base=job.base,
            digest=job.digest,
            overwrite=overwrite,
            extra={
                "head": None if job.head is None else to_mapping(job.head),
                "trained_on_from": tuned.start,
            },
            extra_files=tuned.files(),
        )
        return
    labels = ", ".join(tuned.report.methods)
    api.save(
        job.model,
        out,
        overwrite=overwrite,
        parent=job.digest,
        facts={
            "title": "Tuned state space model",
            "text": [f"{job.base}, tuned on {tuned.config.data} by {labels}, merged."],
        },
        extra_files=tuned.files(),
    )


def _scored(own: OwnMetric, model: nn.Module) -> Own:
    """Return the user's metric as what chooses a step."""

    def scored(outputs: Tensor, y: Tensor) -> tuple[float, float]:
        value = own(*in_own_units(model, outputs, y))
        return value, own.score(value)

    return scored


def _file(checkpoints: Path | None, name: str) -> Path | None:
    return None if checkpoints is None else checkpoints / name


def _judge(job: Job, config: TuneConfig) -> TunedQuality:
    """Return the test split's measures, before and after where there was a model before."""
    rows, objective = job.data.rows.get("test"), job.data.objective
    if not rows:
        return TunedQuality(why_null="the data has no test split")
    size, seed = config.training.batch_size, config.training.seed
    before, own = None, config.own()
    said: list[tuple[Tensor, Tensor]] = []

    def measure() -> Tensor:
        if own is not None:
            answers = row_answers(job.model, objective, rows, size)
            said.append(in_own_units(job.model, *answers))
        return row_measures(job.model, objective, rows, size)

    with evaluating(job.model):
        after = measure()
        if not job.fresh_head:
            with _before(job):
                before = measure()
    found = compare_measures(after, before, objective.names, seed)
    if own is not None:
        found[own.said] = judged_own(own, said, seed)
    return TunedQuality(
        split="test", count=len(rows), interval="bootstrap over rows", measures=found
    )


@contextmanager
def _before(job: Job) -> Iterator[None]:
    """Run, inside the block, what there was before the tuning: the base, or the adapter it was."""
    if job.start is None:
        with adapters.disabled(job.model):
            yield
        return
    learned = {key: value.clone() for key, value in adapters.state(job.model, NAME).items()}
    adapters.load_state_(job.model, NAME, job.start.tensors)
    try:
        yield
    finally:
        adapters.load_state_(job.model, NAME, learned)


def _asked(job: Job) -> list[Any]:
    """Return the rows of the test split that are prompts with answers."""
    return [row for row in job.data.rows.get("test", ()) if getattr(row, "references", ())]


def _check_answers(job: Job, config: TuneConfig) -> None:
    """Refuse to judge answers where there are none, before anything is trained."""
    if config.generation is not None and (not _asked(job) or job.data.tokenizer is None):
        raise InputError(
            f"{config.data} has no test prompts with answers to judge",
            allowed="lines of prompt and completion in a test split",
            next_step="leave generation out",
        )
    if config.generation is not None:
        check_judge(_asked(job), config.judged)


def _answers(
    job: Job, tokenizer: Tokenizer, config: GenerationConfig, most: int | None, progress: Progress
) -> JudgedAnswers:
    return answer(job.model, _asked(job), tokenizer, config, progress, most=most)
