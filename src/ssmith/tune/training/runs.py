"""What the loop does for a sequence model, for a language model, and for adapters and heads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int64, Integer
from torch import Tensor, nn

from ssmith.core.errors import DataError, InputError, UnsupportedError
from ssmith.core.progress import Progress, silent
from ssmith.core.sequences import SequenceData
from ssmith.core.settings import to_mapping
from ssmith.families import LTILayer
from ssmith.ops.native.allocator import tune_allocator_
from ssmith.tune.training.batches import RowBatches, StreamBatches
from ssmith.tune.training.config import FitConfig, LanguageFitConfig, TrainingConfig
from ssmith.tune.training.loop import Loop, Training, Validate, run_
from ssmith.tune.training.objectives import (
    AnswerObjective,
    Batch,
    LanguageObjective,
    Objective,
    row_answers,
    row_measures,
)
from ssmith.tune.training.processes import Processes, join_processes
from ssmith.tune.training.schedule import Schedule

SECONDS_BETWEEN_CHECKPOINTS = 180.0


def fit(
    model: nn.Module,
    data: SequenceData,
    config: FitConfig,
    validate: Callable[[nn.Module], tuple[float, ...]],
    *,
    checkpoint: Path | None = None,
    facts: Mapping[str, Any] | None = None,
    progress: Progress = silent,
) -> Training:
    """Train on ``data``'s training split and keep the weights that validate best.

    Every epoch's order and dropout are derived from the seed and the epoch's number, so a run that
    is killed and started again with the same ``checkpoint`` ends with the same weights.
    ``validate`` is called after each epoch and returns how good the model is, larger is better;
    ``facts``, JSON-ready, must be shared by a checkpoint to be resumed.
    """
    part = data.split("train").to(next(model.parameters()).device)

    def read(rows: Int64[Tensor, "r"]) -> Batch:
        chosen = part.take(rows.to(part.x.device))
        return {"x": chosen.x, "lengths": chosen.lengths, "target": chosen.y}

    def judged(model: nn.Module) -> tuple[dict[str, float], tuple[float, ...]]:
        score = validate(model)
        return {"score": score[0]}, score

    batches = RowBatches(count=len(part), size=config.batch_size, seed=config.seed, read=read)
    total = config.epochs * batches.steps_per_pass
    loop = Loop(
        objective=AnswerObjective(
            task=data.task, hankel=config.hankel, weights=_class_weights(data, config.balance)
        ),
        batches=batches,
        groups=_sequence_groups(model, config),
        schedule=Schedule(steps=total, rising=max(1, round(config.warmup * total)), shape="cosine"),
        validate=judged,
        look_every=batches.steps_per_pass,
        read=model.state_dict,
        write=model.load_state_dict,
        seed=config.seed,
        part=config.batch_size,
        reseed_every=batches.steps_per_pass,
        clip_norm=config.clip_norm,
        patience=config.patience,
        checkpoint=checkpoint,
        identity={"settings": to_mapping(config), "data": data.sha256, **(facts or {})},
        progress=progress,
    )
    return run_(model, loop)


def _class_weights(data: SequenceData, balance: float) -> tuple[float, ...]:
    """Return the weight of each class in the loss, 1 in the mean over the training rows."""
    if not balance or data.task != "classification":
        return ()
    counts = data.split("train").y.bincount(minlength=len(data.classes)).double()
    weights = counts.clamp(min=1) ** -balance
    return tuple((weights * counts.sum() / (weights * counts).sum()).tolist())


def fit_language_(
    model: nn.Module,
    stream: Integer[Tensor, "t"],
    config: LanguageFitConfig,
    validate: Callable[[nn.Module], float],
    *,
    checkpoint: Path | None = None,
    facts: Mapping[str, Any] | None = None,
    progress: Progress = silent,
) -> Training:
    """Train a language model to predict the next token of a stream; it ends with the last weights.

    The stream is cut into rows anew in each pass, at a drawn phase and in a drawn order, both
    derived from the seed and the number of the pass: a run that is killed and started again with
    the same ``checkpoint`` ends with the same bytes as one that ran through. ``validate`` returns
    the bits per token, every so many steps and after the last; ``facts``, JSON-ready, must be
    shared by a checkpoint to be resumed.
    """
    batches = StreamBatches(
        stream=stream, length=config.length, size=config.batch_size, seed=config.seed
    )
    if batches.windows < config.batch_size:
        raise DataError(
            f"the training text has {len(stream)} tokens",
            allowed=f"at least {(config.batch_size + 1) * config.length + 1} for one batch",
            next_step="give more text, or lower batch_size or length",
        )

    def judged(model: nn.Module) -> tuple[dict[str, float], tuple[float, ...]]:
        bits = validate(model)
        return {"bits_per_token": bits}, (-bits,)

    loop = Loop(
        objective=LanguageObjective(),
        batches=batches,
        groups=_language_groups(model, config),
        schedule=Schedule(
            steps=config.steps,
            rising=round(config.warmup * config.steps),
            shape="cosine",
            final=config.final_lr,
        ),
        validate=judged,
        look_every=config.evaluate_every,
        read=lambda: {**dict(model.named_parameters()), **dict(model.named_buffers())},
        write=lambda tensors: _write(model, tensors),
        seed=config.seed,
        part=config.batch_size,
        betas=(config.beta1, config.beta2),
        clip_norm=config.clip_norm,
        autocast=config.autocast,
        keep_last=True,
        checkpoint=checkpoint,
        save_seconds=SECONDS_BETWEEN_CHECKPOINTS,
        identity={"settings": to_mapping(config), **(facts or {})},
        progress=progress,
    )
    if config.keep_freed_memory:
        tune_allocator_()
    with _matmul_precision(config.matmul_precision):
        return run_(model, loop)


@dataclass(frozen=True, kw_only=True)
class RateGroup:
    """Parameters, by name in the model, that share a learning rate; Muon's are matrices."""

    name: str
    parameters: Mapping[str, nn.Parameter]
    rate: float
    optimizer: str = "adamw"


Own = Callable[[Tensor, Tensor], tuple[float, float]]
"""Answers and targets of all validation rows → a value, and how good it is: larger is better."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """What is tuned, on what, and where it is kept.

    Args:
        validation: rows that stop the training and choose its best step.
        groups: everything that is trained, each parameter once.
        read: returns the tuned tensors as they are now; ``write`` puts such tensors back.
        checkpoint: file to go on from and to write at each look; None for neither.
        keep_last: end with the last weights instead of those that validated best.
        own: what goes before the objective's own score (`AnswerObjective`); None for that alone.
        identity: JSON-ready facts a checkpoint must share to be resumed.
    """

    objective: Objective
    train: Sequence[Any]
    validation: Sequence[Any]
    config: TrainingConfig
    groups: Sequence[RateGroup]
    read: Callable[[], dict[str, Tensor]]
    write: Callable[[Mapping[str, Tensor]], None]
    checkpoint: Path | None = None
    keep_last: bool = False
    own: Own | None = None
    identity: Mapping[str, Any] = field(default_factory=dict)
    progress: Progress = silent


def train_(model: nn.Module, work: Work) -> Training:
    """Train a model's groups in place, and leave it with the weights that validated best.

    In a process started by ``torchrun`` or ``accelerate launch`` it shares each step with the
    others. A run that is killed and started again with the same ``checkpoint`` ends with the same
    weights, to the last bit on the same machine. Every parameter that requires a gradient is in one
    of the groups; the first look is before the first step.
    """
    config = work.config
    _check_groups(model, work)
    processes = join_processes(config.device)
    if config.gradient_checkpointing:
        _checkpoint_activations(model)
    total = config.total_steps(len(work.train), processes.count)
    batches = RowBatches(
        count=len(work.train),
        size=config.batch_size * config.accumulate * processes.count,
        seed=config.seed,
        read=lambda rows: work.objective.collate([work.train[row] for row in rows.tolist()]),
    )
    loop = Loop(
        objective=work.objective,
        batches=batches,
        groups=[
            {
                "params": list(group.parameters.values()),
                "lr": group.rate,
                "weight_decay": config.weight_decay,
                "optimizer": group.optimizer,
            }
            for group in work.groups
        ],
        schedule=Schedule(steps=total, rising=round(config.warmup * total), shape=config.schedule),
        validate=_validator(work, processes),
        look_every=config.look_every(total),
        look_first=True,
        read=work.read,
        write=work.write,
        seed=config.seed,
        part=config.batch_size,
        processes=processes,
        clip_norm=config.clip_norm,
        autocast=config.precision == "bfloat16",
        patience=config.patience,
        keep_last=work.keep_last,
        checkpoint=work.checkpoint,
        identity=work.identity,
        stage="tune",
        progress=work.progress,
    )
    return run_(model, loop)


def _validator(work: Work, processes: Processes) -> Validate:
    """Return what looks at the validation split, each process at its share."""
    objective, config = work.objective, work.config

    def validate(model: nn.Module) -> tuple[dict[str, float], tuple[float, ...]]:
        model.eval()
        device = next(model.parameters()).device
        rows = work.validation[processes.rank :: processes.count]
        bf16 = config.precision == "bfloat16"
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            sums = row_measures(model, objective, rows, config.batch_size).sum(0)
            # A metric of the user's is of all rows at once: every process takes them all.
            answers = None
            if work.own is not None:
                answers = row_answers(model, objective, work.validation, config.batch_size)
        sums = processes.sum_(sums.to(device)).cpu()
        means = dict(zip(objective.names, (sums[:-1] / sums[-1]).tolist(), strict=True))
        score = objective.score(means)
        if work.own is None or answers is None:
            return means, score
        value, good = work.own(*answers)
        return {"own_metric": value, **means}, (good, *score)

    return validate


def _sequence_groups(model: nn.Module, config: FitConfig) -> list[dict[str, Any]]:
    """Split the parameters: state space (own rate, no decay), no decay, the rest."""
    ssm: list[nn.Parameter] = []
    for part in model.modules():
        if isinstance(part, LTILayer):
            ssm += [part.get_parameter(name) for name in part.trainable_ssm]
    special = set(map(id, ssm))
    others = [item for item in model.parameters() if id(item) not in special and item.requires_grad]
    decayed = [item for item in others if item.ndim > 1]
    plain = [item for item in others if item.ndim <= 1]
    return [
        {"params": ssm, "lr": config.ssm_lr, "weight_decay": 0.0},
        {"params": plain, "lr": config.lr, "weight_decay": 0.0},
        {"params": decayed, "lr": config.lr, "weight_decay": config.weight_decay},
    ]


def _language_groups(model: nn.Module, config: LanguageFitConfig) -> list[dict[str, Any]]:
    """Split the parameters: those that decay (products and embeddings), and the rest."""
    decays = {
        id(part.weight) for part in model.modules() if isinstance(part, nn.Linear | nn.Embedding)
    }
    trained = [item for item in model.parameters() if item.requires_grad]
    decayed = [item for item in trained if id(item) in decays]
    plain = [item for item in trained if id(item) not in decays]
    return [
        {"params": decayed, "lr": config.lr, "weight_decay": config.weight_decay},
        {"params": plain, "lr": config.lr, "weight_decay": 0.0},
    ]


@torch.no_grad()
def _write(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    for name, value in [*model.named_parameters(), *model.named_buffers()]:
        value.copy_(tensors[name])


@contextmanager
def _matmul_precision(name: str) -> Iterator[None]:
    """Set how float32 products are computed inside the block, and restore it after."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(name)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _checkpoint_activations(model: nn.Module) -> None:
    able: list[Any] = [
        part for part in model.modules() if hasattr(part, "activation_checkpointing_enable")
    ]
    if not able:
        raise UnsupportedError(
            f"{type(model).__name__} cannot recompute its activations",
            allowed="Hugging Face models",
            next_step="leave gradient_checkpointing out",
        )
    able[0].activation_checkpointing_enable()


def _check_groups(model: nn.Module, work: Work) -> None:
    grouped = [id(item) for group in work.groups for item in group.parameters.values()]
    if len(set(grouped)) < len(grouped):
        raise InputError("a parameter is in two groups", allowed="each parameter in one")
    trained = {name: item for name, item in model.named_parameters() if item.requires_grad}
    left = [name for name, item in trained.items() if id(item) not in set(grouped)]
    if left or not grouped:
        raise InputError(
            f"{len(left)} trained parameters are in no group"
            + (f", e.g. {left[0]}" if left else ", and no group has any"),
            allowed="every trained parameter in one group",
        )
