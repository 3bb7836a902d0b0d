"""The training recipe: AdamW with a separate state space rate, warm-up, cosine, early stop."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ssmith.core.checks import check_integer, check_number
from ssmith.core.errors import NumericalError
from ssmith.core.seeds import generator, seeded
from ssmith.core.sequences import SequenceData, Sequences, Task
from ssmith.families import LTILayer
from ssmith.tune.checkpoint import load_checkpoint, save_checkpoint
from ssmith.tune.hankel import hankel_penalty

Validate = Callable[[nn.Module], tuple[float, ...]]
"""Returns how good a model is on validation data; compared as tuples, larger is better."""

Progress = Callable[[int, dict[str, float]], None]


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """Settings of one training run.

    Args:
        epochs: most passes over the training split, ≥ 1.
        batch_size: sequences per step, ≥ 1.
        lr: peak rate of everything but the state space parameters.
        ssm_lr: peak rate of eigenvalues, input maps and step sizes (S5's ``ssm_lr``).
        weight_decay: AdamW's decay, not applied to state space parameters, biases and norms.
        warmup: fraction of all steps with a linearly rising rate, in [0, 1).
        patience: stop after this many epochs without a better validation result.
        clip_norm: largest gradient norm.
        hankel: weight of the Hankel penalty on the state space layers, ≥ 0 (`hankel_penalty`).
        seed: everything random is derived from it.

    Raises:
        InputError: if a value is outside its domain.
    """

    epochs: int = 60
    batch_size: int = 32
    lr: float = 4e-3
    ssm_lr: float = 1e-3
    weight_decay: float = 0.05
    warmup: float = 0.1
    patience: int = 20
    clip_norm: float = 1.0
    hankel: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "patience"):
            check_integer(name, getattr(self, name), at_least=1)
        check_integer("seed", self.seed, at_least=0)
        for name in ("lr", "ssm_lr", "clip_norm"):
            check_number(name, getattr(self, name), above=0)
        for name in ("weight_decay", "hankel"):
            check_number(name, getattr(self, name), at_least=0)
        check_number("warmup", self.warmup, at_least=0, below=1)


@dataclass(frozen=True, kw_only=True)
class Fit:
    """What a training run did.

    Args:
        best_epoch: the epoch whose weights the model now has, from 1.
        history: per epoch: train loss and the validation result.
        stopped_early: whether patience ran out before the last epoch.
        settings: the resolved settings.
    """

    best_epoch: int
    history: list[dict[str, Any]] = field(default_factory=list)
    stopped_early: bool = False
    settings: dict[str, Any] = field(default_factory=dict)


def fit(
    model: nn.Module,
    data: SequenceData,
    config: FitConfig,
    validate: Validate,
    *,
    checkpoint: Path | None = None,
    facts: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> Fit:
    """Train on ``data``'s training split and keep the weights that validate best.

    Every epoch's order and dropout are derived from the seed and the epoch's number, so a run
    that is killed and started again with the same ``checkpoint`` ends with the same weights.

    Args:
        model: trained in place; it stays on its device.
        data: only its ``train`` split is read here.
        config: see `FitConfig`.
        validate: called after each epoch.
        checkpoint: file to resume from and to write after each epoch; None for neither.
        facts: JSON-ready facts that a checkpoint must share to be resumed, e.g. the settings of
            the model, which do not all show in its weights.
        progress: called after each epoch with its number and its numbers.

    Returns:
        What happened.

    Raises:
        NumericalError: if the loss or the validation result is not finite.
        ArtefactError: if the checkpoint belongs to another run.
    """
    part = data.split("train").to(next(model.parameters()).device)
    optimizer = torch.optim.AdamW(_groups(model, config), betas=(0.9, 0.999))
    peaks = [float(group["lr"]) for group in optimizer.param_groups]
    steps_per_epoch = -(-len(part) // config.batch_size)
    identity = {"settings": asdict(config), "data": data.sha256, "facts": dict(facts or {})}
    best = _copy(model)
    history: list[dict[str, Any]] = []
    if checkpoint is not None and checkpoint.exists():
        best, saved = load_checkpoint(checkpoint, model, optimizer, identity)
        history = saved["history"]
    while len(history) < config.epochs and _since_best(history) < config.patience:
        epoch = len(history)
        loss = 0.0
        model.train()
        order = torch.randperm(len(part), generator=generator(config.seed, "order", epoch))
        with seeded(config.seed, "dropout", epoch):
            for step, index in enumerate(order.split(config.batch_size)):
                done = epoch * steps_per_epoch + step
                _set_rates(optimizer, peaks, done, config.epochs * steps_per_epoch, config.warmup)
                batch = part.take(index.to(part.x.device))
                loss += _step(model, batch, data.task, optimizer, config) * len(batch)
        score = validate(model)
        if not all(map(math.isfinite, score)):
            raise NumericalError(
                f"the validation result became {score}", next_step="lower lr or ssm_lr"
            )
        history.append({"train_loss": loss / len(part), "validation": list(score)})
        if _since_best(history) == 0:
            best = _copy(model)
        if checkpoint is not None:
            saved = {"identity": identity, "history": history}
            save_checkpoint(checkpoint, model, optimizer, best, saved)
        if progress is not None:
            progress(epoch + 1, {"loss": loss / len(part), "validation": score[0]})
    model.load_state_dict(best)
    model.eval()
    return Fit(
        best_epoch=len(history) - _since_best(history),
        history=history,
        stopped_early=len(history) < config.epochs,
        settings=asdict(config),
    )


def task_loss(outputs: Tensor, y: Tensor, task: Task) -> Tensor:
    """Return the mean training loss of a batch: cross-entropy, or the mean squared error."""
    if task == "classification":
        return nn.functional.cross_entropy(outputs, y)
    return nn.functional.mse_loss(outputs, y.reshape(outputs.shape))


def _step(
    model: nn.Module,
    batch: Sequences,
    task: Task,
    optimizer: torch.optim.Optimizer,
    config: FitConfig,
) -> float:
    loss = task_loss(model(batch.x, batch.lengths), batch.y, task)
    if config.hankel:
        loss = loss + config.hankel * hankel_penalty(model).to(loss)
    value = loss.item()
    if not math.isfinite(value):
        raise NumericalError(
            f"the training loss became {value}", next_step="lower lr or ssm_lr, or clip_norm"
        )
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
    optimizer.step()
    return value


def _groups(model: nn.Module, config: FitConfig) -> list[dict[str, Any]]:
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


def _set_rates(
    optimizer: torch.optim.Optimizer, peaks: list[float], step: int, total: int, warmup: float
) -> None:
    rising = max(1, round(warmup * total))
    if step < rising:
        factor = (step + 1) / rising
    else:
        factor = 0.5 * (1.0 + math.cos(math.pi * (step - rising) / max(1, total - rising)))
    for group, peak in zip(optimizer.param_groups, peaks, strict=True):
        group["lr"] = peak * factor


def _since_best(history: list[dict[str, Any]]) -> int:
    """Return how many epochs ago the best validation result was (0 for an empty history)."""
    if not history:
        return 0
    scores = [tuple(item["validation"]) for item in history]
    return len(scores) - 1 - scores.index(max(scores))


def _copy(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}
