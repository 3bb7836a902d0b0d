"""The tuning job: load, attach, train, judge, save."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ssmith import api
from ssmith.artefact import base_digest
from ssmith.core.errors import InputError, UnsupportedError
from ssmith.core.receipt import Receipt
from ssmith.core.seeds import generator
from ssmith.families import SequenceModel, vocabulary_of
from ssmith.families.heads import HeadConfig, renew_head_, with_head
from ssmith.families.hf import accelerate_
from ssmith.jobs.progress import Progress, silent
from ssmith.jobs.tuning.config import TuneConfig
from ssmith.jobs.tuning.judging import answer, compare_measures, row_measures
from ssmith.jobs.tuning.lessons import Lessons, lessons
from ssmith.jobs.tuning.record import Outcome, adapter_files, receipt_of
from ssmith.tune import adapters
from ssmith.tune.adapters import SDT, AttachReport, FullFineTuning, Method, Parameters
from ssmith.tune.training import (
    AnswerObjective,
    Distillation,
    Group,
    LanguageObjective,
    Objective,
    Training,
    Work,
    is_main_process,
    starting_rate,
    train_,
)

NAME = "default"
_HEADS = ("score", "encoder", "head")


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """What a tuning job made.

    Args:
        model: with the adapter active.
        report: what the adapter reaches and trains.
        training: what happened.
        rates: learning rate of each group and where it comes from.
        receipt: the record of the job.
    """

    model: nn.Module
    report: AttachReport
    training: Training
    rates: dict[str, dict[str, Any]]
    receipt: Receipt


@dataclass(frozen=True, kw_only=True)
class _Job:
    """A model ready to be tuned, with what it learns."""

    model: nn.Module
    lessons: Lessons
    objective: Objective
    digest: str
    head: HeadConfig | None
    fresh_head: bool


def fine_tune(
    spec: str | Path,
    config: TuneConfig,
    *,
    out: Path | None = None,
    place: Path | None = None,
    overwrite: bool = False,
    command: Sequence[str] = (),
    progress: Progress = silent,
) -> Tuned:
    """Tune a model, keep what validates best, judge it on the test split, and save the adapter.

    Killed at any point and called again with the same ``place``, it goes on where it was and ends
    with the same weights. Under ``torchrun`` each process takes its share and the first one saves.

    Args:
        spec: directory, hub id or ``embedded:NAME`` of the base model, pruned or not.
        config: see `TuneConfig`.
        out: directory of the adapter to make; None to save nothing.
        place: directory of checkpoints; None for none.
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
    job = _prepared(spec, config)
    few = job.lessons.rows["train"][:2]
    batch = {k: v for k, v in job.objective.collate(few).items() if k not in ("labels", "target")}
    report = adapters.attach_(
        job.model,
        _methods(job, config),
        name=NAME,
        allow_partial=config.allow_partial,
        batch=batch,
        seed=config.training.seed,
    )
    _warm_up(job, config, place, progress)
    groups, rates = _groups(job.model, config)
    training = train_(job.model, _work(job, config, groups, place, progress))
    quality = _judge(job, config)
    if config.generation is not None:
        quality["answers"] = _answers(job, config, progress)
    outcome = Outcome(
        spec=str(spec),
        digest=job.digest,
        report=report,
        training=training,
        rates=rates,
        data=job.lessons.about,
        quality=quality,
    )
    receipt = receipt_of(outcome, config, command)
    if out is not None and is_main_process():
        api.save_adapter(
            job.model,
            out,
            name=NAME,
            base=_base_name(spec),
            digest=job.digest,
            overwrite=overwrite,
            extra={"head": job.head.as_dict() if job.head is not None else None},
            extra_files=adapter_files(receipt, config, training),
        )
    return Tuned(model=job.model, report=report, training=training, rates=rates, receipt=receipt)


def _prepared(spec: str | Path, config: TuneConfig) -> _Job:
    """Load the model and its data, and put a head on where one is needed."""
    model = api.load(spec)
    digest = base_digest(model)
    found = lessons(model, config)
    head, draw = found.head, generator(config.training.seed, "head")
    fresh = head is not None
    if isinstance(model, SequenceModel) and head is not None:
        own = model.config
        same = (own.task, own.classes, own.outputs) == (head.task, head.classes, head.outputs)
        if same:
            head, fresh = None, False
        else:
            renew_head_(model, head, draw)
    elif head is not None:
        model = with_head(model, head, draw)
    model.to(config.training.device)
    return _Job(
        model=model,
        lessons=found,
        objective=_objective(model, found, config),
        digest=digest,
        head=head,
        fresh_head=fresh,
    )


def _objective(model: nn.Module, found: Lessons, config: TuneConfig) -> Objective:
    if found.head is not None:
        if config.recover_from is not None:
            raise UnsupportedError(
                "a model that predicts classes or numbers cannot imitate a dense one yet",
                allowed="language models",
                next_step="leave recover_from out: it then learns from the data",
            )
        return AnswerObjective(task=found.head.task)
    if config.recover_from is None:
        return LanguageObjective()
    teacher = api.load(config.recover_from)
    if vocabulary_of(teacher) != vocabulary_of(model):
        raise InputError(
            f"{config.recover_from} has {vocabulary_of(teacher)} token ids",
            allowed=f"{vocabulary_of(model)}, as the model has",
        )
    accelerate_(teacher)
    return Distillation(teacher=teacher.to(config.training.device), weight=config.imitate)


def _methods(job: _Job, config: TuneConfig) -> tuple[Method, ...]:
    """Return the methods, with the head among what is trained."""
    everything = any(isinstance(m, FullFineTuning) and m.scope == "all" for m in config.methods)
    wanted = job.fresh_head if config.train_head is None else config.train_head
    if everything or not wanted or job.lessons.head is None:
        return config.methods
    names = [name for name in _HEADS if name in dict(job.model.named_children())]
    if isinstance(job.model, SequenceModel):
        names = ["head"]
    return (*config.methods, Parameters(targets=tuple(names)))


def _groups(model: nn.Module, config: TuneConfig) -> tuple[list[Group], dict[str, dict[str, Any]]]:
    """Return what is trained in groups, each with its rate and where that comes from."""
    named: dict[str, dict[str, nn.Parameter]] = {}
    for group, parameters in adapters.groups(model, NAME).items():
        for name, parameter in parameters.items():
            inside = "head" if name.split(".")[0] in _HEADS else group
            named.setdefault(inside, {})[name] = parameter
    given = config.training.rates
    unknown = sorted(set(given) - set(named))
    if unknown:
        raise InputError(f"rates names group {unknown[0]!r}", allowed=", ".join(named))
    rates: dict[str, dict[str, Any]] = {}
    for name in named:
        if name in given or config.training.rate is not None:
            rates[name] = {"value": given.get(name, config.training.rate), "source": "given"}
        else:
            rates[name] = dataclasses.asdict(starting_rate(name, config.published))
    groups = [
        Group(name=name, parameters=parameters, rate=rates[name]["value"])
        for name, parameters in named.items()
    ]
    return groups, rates


def _work(
    job: _Job,
    config: TuneConfig,
    groups: Sequence[Group],
    place: Path | None,
    progress: Progress,
) -> Work:
    def read() -> dict[str, Tensor]:
        return adapters.state(job.model, NAME)

    def write(tensors: Mapping[str, Tensor]) -> None:
        adapters.load_state_(job.model, NAME, tensors)

    return Work(
        objective=job.objective,
        train=job.lessons.rows["train"],
        validation=job.lessons.rows["validation"],
        config=config.training,
        groups=groups,
        read=read,
        write=write,
        place=place,
        identity={
            "base": job.digest,
            "data": job.lessons.sha256,
            "settings": config.as_dict(),
            "groups": {group.name: group.rate for group in groups},
        },
        listener=progress,
    )


def _warm_up(job: _Job, config: TuneConfig, place: Path | None, progress: Progress) -> None:
    """Train the warm-up of sparse dimension tuning, and choose what is trained after it."""
    sparse = [method for method in config.methods if isinstance(method, SDT)]
    if not sparse:
        return
    steps = sparse[0].warmup_steps
    training = dataclasses.replace(
        config.training, steps=steps, epochs=None, evaluate_every=steps, patience=None
    )
    short = dataclasses.replace(config, training=training)
    groups, _ = _groups(job.model, short)
    inner = None if place is None else place / "warm-up"
    work = _work(job, short, groups, inner, progress)
    train_(job.model, dataclasses.replace(work, keep_last=True))
    adapters.select_(job.model, NAME)


def _judge(job: _Job, config: TuneConfig) -> dict[str, Any]:
    """Return the test split's measures, before and after where there was a model before."""
    rows = job.lessons.rows.get("test")
    if not rows:
        return {"why_null": "the data has no test split"}
    size, seed = config.training.batch_size, config.training.seed
    after = row_measures(job.model, job.objective, rows, size)
    before = None
    if not job.fresh_head:
        with adapters.disabled(job.model):
            before = row_measures(job.model, job.objective, rows, size)
    found = compare_measures(after, before, job.objective.names, seed)
    return {"split": "test", "count": len(rows), "interval": "bootstrap over rows", **found}


def _answers(job: _Job, config: TuneConfig, progress: Progress) -> dict[str, Any]:
    examples = [row for row in job.lessons.rows.get("test", ()) if getattr(row, "references", ())]
    if not examples or job.lessons.tokenizer is None or config.generation is None:
        raise InputError(
            f"{config.data} has no test prompts with answers to judge",
            allowed="lines of prompt and completion in a test split",
            next_step="leave generation out",
        )
    return answer(
        job.model,
        examples,
        job.lessons.tokenizer,
        config.generation,
        progress,
        most=config.judged,
    ).as_dict()


def _base_name(spec: str | Path) -> str:
    path = Path(spec)
    return str(path.resolve()) if path.is_dir() else str(spec)
