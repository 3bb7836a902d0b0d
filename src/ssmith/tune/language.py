"""Training of a language model from scratch: AdamW, warm-up, cosine, resumable to the same bits."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int64, Integer
from torch import Tensor, nn

from ssmith.core.checks import check_choice, check_flag, check_integer, check_number
from ssmith.core.errors import DataError, NumericalError
from ssmith.core.seeds import generator
from ssmith.ops.native.allocator import tune_allocator_
from ssmith.tune.language_checkpoint import (
    Saved,
    averaged,
    load_language_checkpoint,
    save_language_checkpoint,
)

Validate = Callable[[nn.Module], float]
"""Returns the bits per token on validation text; smaller is better."""

SECONDS_BETWEEN_CHECKPOINTS = 180.0
PRECISIONS = ("highest", "high", "medium")
Told = Callable[[int, dict[str, float]], None]
"""Told after each step: steps done; loss in nats, tokens per second, seconds left."""


@dataclass(frozen=True, kw_only=True)
class LanguageFitConfig:
    """Settings of one training run.

    Args:
        steps: optimiser steps, ≥ 1.
        batch_size: rows per step, ≥ 1.
        length: tokens predicted in each row, ≥ 1.
        lr: peak rate.
        final_lr: last rate as a share of the peak, in [0, 1).
        warmup: fraction of all steps with a linearly rising rate, in [0, 1).
        weight_decay: AdamW's decay of the weights of linear layers and embeddings; convolutions,
            A_log, D, biases and norms have none.
        beta1: AdamW's decay of the first moment, in [0, 1).
        beta2: AdamW's decay of the second moment, in [0, 1).
        clip_norm: largest gradient norm.
        evaluate_every: steps between looks at the validation text, ≥ 1.
        autocast: run in bf16 where torch deems it safe.
        matmul_precision: torch's setting for float32 products: ``"highest"``, ``"high"`` or
            ``"medium"`` (which may multiply in bf16 where the processor can).
        keep_freed_memory: let the process keep freed memory (see `tune_allocator_`); faster on
            Linux, lasts until the process ends, changes no number.
        seed: everything random is derived from it.

    Raises:
        InputError: if a value is outside its domain.
    """

    steps: int
    batch_size: int = 8
    length: int = 1024
    lr: float = 3e-3
    final_lr: float = 0.1
    warmup: float = 0.03
    weight_decay: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.95
    clip_norm: float = 1.0
    evaluate_every: int = 250
    autocast: bool = False
    matmul_precision: str = "highest"
    keep_freed_memory: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "length", "evaluate_every"):
            check_integer(name, getattr(self, name), at_least=1)
        check_integer("seed", self.seed, at_least=0)
        for name in ("lr", "clip_norm"):
            check_number(name, getattr(self, name), above=0)
        for name in ("final_lr", "warmup", "beta1", "beta2"):
            check_number(name, getattr(self, name), at_least=0, below=1)
        check_number("weight_decay", self.weight_decay, at_least=0)
        for name in ("autocast", "keep_freed_memory"):
            check_flag(name, getattr(self, name))
        check_choice("matmul_precision", self.matmul_precision, PRECISIONS)

    @property
    def tokens(self) -> int:
        """Tokens predicted in the whole run."""
        return self.steps * self.batch_size * self.length


@dataclass(frozen=True, kw_only=True)
class LanguageFit:
    """What a training run did.

    Args:
        losses: mean loss of each step's batch, in nats per token.
        validation: (steps done, bits per token on the validation text), in order.
        seconds: time spent in training steps, over all its parts.
        settings: the resolved settings.
    """

    losses: list[float]
    validation: list[tuple[int, float]] = field(default_factory=list)
    seconds: float = 0.0
    settings: dict[str, Any] = field(default_factory=dict)

    def curve(self) -> list[dict[str, float]]:
        """Return the loss in nats per token, averaged over stretches of steps."""
        return averaged(self.losses)


def fit_language_(
    model: nn.Module,
    stream: Integer[Tensor, "t"],
    config: LanguageFitConfig,
    validate: Validate,
    *,
    checkpoint: Path | None = None,
    facts: Mapping[str, Any] | None = None,
    told: Told | None = None,
) -> LanguageFit:
    """Train a language model to predict the next token of a stream.

    The stream is cut into rows anew in each pass, at a drawn phase and in a drawn order, both
    derived from the seed and the number of the pass: a run that is killed and started again with
    the same ``checkpoint`` ends with the same bytes as one that ran through.

    Args:
        model: called with token ids, returns an object with ``logits``; trained in place, on its
            device.
        stream: token ids of the training text.
        config: see `LanguageFitConfig`.
        validate: called every so many steps and after the last.
        checkpoint: file to resume from and to write every few minutes; None for neither.
        facts: JSON-ready facts a checkpoint must share to be resumed (data, model).
        told: called after each step.

    Returns:
        What happened.

    Raises:
        DataError: if the stream is shorter than one batch.
        NumericalError: if the loss is not finite.
        ArtefactError: if the checkpoint belongs to another run.
    """
    rows = (len(stream) - 1) // config.length - 1
    if rows < config.batch_size:
        raise DataError(
            f"the training text has {len(stream)} tokens",
            allowed=f"at least {(config.batch_size + 1) * config.length + 1} for one batch",
            next_step="give more text, or lower batch_size or length",
        )
    optimizer = torch.optim.AdamW(
        _groups(model, config), lr=config.lr, betas=(config.beta1, config.beta2)
    )
    identity = {"settings": asdict(config), "facts": dict(facts or {})}
    saved = Saved(losses=torch.zeros(config.steps))
    if checkpoint is not None and checkpoint.exists():
        saved = load_language_checkpoint(checkpoint, model, optimizer, identity)
    last_saved = time.monotonic()
    if config.keep_freed_memory:
        tune_allocator_()
    with _arithmetic(config):
        while saved.done < config.steps:
            started = time.monotonic()
            batch = _batch(stream, config, saved.done, rows)
            loss = _step(model, optimizer, batch, config, saved.done)
            saved.losses[saved.done] = loss
            saved.done += 1
            saved.seconds += time.monotonic() - started
            if saved.done % config.evaluate_every == 0 or saved.done == config.steps:
                saved.validation.append((saved.done, validate(model)))
            due = time.monotonic() - last_saved > SECONDS_BETWEEN_CHECKPOINTS
            if checkpoint is not None and (due or saved.done == config.steps):
                save_language_checkpoint(checkpoint, model, optimizer, identity, saved)
                last_saved = time.monotonic()
            if told is not None:
                told(saved.done, _numbers(saved, config))
    model.eval()
    return LanguageFit(
        losses=saved.losses.tolist(),
        validation=saved.validation,
        seconds=saved.seconds,
        settings=asdict(config),
    )


def _step(
    model: Any,
    optimizer: torch.optim.Optimizer,
    batch: Int64[Tensor, "b l"],
    config: LanguageFitConfig,
    step: int,
) -> float:
    for group in optimizer.param_groups:
        group["lr"] = rate(step, config)
    model.train()
    device = next(model.parameters()).device
    ids = batch.to(device)
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=config.autocast):
        logits: Float[Tensor, "b l v"] = model(input_ids=ids[:, :-1], use_cache=False).logits
    loss = nn.functional.cross_entropy(logits.flatten(0, 1).float(), ids[:, 1:].flatten())
    value = loss.item()
    if not math.isfinite(value):
        raise NumericalError(f"the training loss became {value}", next_step="lower lr or clip_norm")
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
    optimizer.step()
    return value


def rate(step: int, config: LanguageFitConfig) -> float:
    """Return the learning rate of a step: linear warm-up, then a cosine to its final share.

    Args:
        step: counted from 0.
        config: see `LanguageFitConfig`.

    Returns:
        The rate.
    """
    rising = round(config.warmup * config.steps)
    if step < rising:
        return config.lr * (step + 1) / rising
    turn = math.pi * (step - rising) / max(1, config.steps - rising)
    share = config.final_lr + (1 - config.final_lr) * 0.5 * (1 + math.cos(turn))
    return config.lr * share


def _batch(
    stream: Integer[Tensor, "t"], config: LanguageFitConfig, step: int, rows: int
) -> Int64[Tensor, "b l"]:
    """Return the rows of one step, each with the token before its first prediction."""
    in_a_pass = rows // config.batch_size
    turn, place = divmod(step, in_a_pass)
    draw = generator(config.seed, "order", turn)
    phase = int(torch.randint(config.length, (), generator=draw))
    order = torch.randperm(rows, generator=draw)
    chosen = order[place * config.batch_size : (place + 1) * config.batch_size].tolist()
    starts = [phase + row * config.length for row in chosen]
    return torch.stack([stream[at : at + config.length + 1] for at in starts]).long()


def _groups(model: nn.Module, config: LanguageFitConfig) -> list[dict[str, Any]]:
    """Split the parameters: those that decay (products and embeddings), and the rest."""
    decays = {
        id(part.weight) for part in model.modules() if isinstance(part, nn.Linear | nn.Embedding)
    }
    trained = [item for item in model.parameters() if item.requires_grad]
    decayed = [item for item in trained if id(item) in decays]
    plain = [item for item in trained if id(item) not in decays]
    return [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]


def _numbers(saved: Saved, config: LanguageFitConfig) -> dict[str, float]:
    recent = saved.losses[max(0, saved.done - 50) : saved.done].mean().item()
    speed = saved.done * config.batch_size * config.length / max(saved.seconds, 1e-9)
    left = (config.steps - saved.done) * config.batch_size * config.length / speed
    return {"loss": recent, "tokens_per_second": speed, "seconds_left": left}


@contextmanager
def _arithmetic(config: LanguageFitConfig) -> Iterator[None]:
    """Set how float32 products are computed inside the block, and restore it after."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(config.matmul_precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
