"""The settings of trainings: of a sequence model, of a language model, of adapters and heads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import get_args

from ssmith.core.checks import check_choice, check_flag, check_integer, check_number
from ssmith.core.errors import InputError
from ssmith.tune.training.optimizers import OPTIMIZERS
from ssmith.tune.training.schedule import Shape

PRECISIONS = ("float32", "bfloat16")
MATMUL_PRECISIONS = ("highest", "high", "medium")
VALIDATIONS = 20
PUBLISHED_EPOCHS = 10


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
        balance: how far rare classes count more: 0 for all rows alike, 1 for all classes alike.
        seed: everything random is derived from it.
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
    balance: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "patience"):
            check_integer(name, getattr(self, name), at_least=1)
        check_integer("seed", self.seed, at_least=0)
        for name in ("lr", "ssm_lr", "clip_norm"):
            check_number(name, getattr(self, name), above=0)
        check_number("balance", self.balance, at_least=0, below=1 + 1e-9)
        for name in ("weight_decay", "hankel"):
            check_number(name, getattr(self, name), at_least=0)
        check_number("warmup", self.warmup, at_least=0, below=1)


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
        check_choice("matmul_precision", self.matmul_precision, MATMUL_PRECISIONS)

    @property
    def tokens(self) -> int:
        """Tokens predicted in the whole run."""
        return self.steps * self.batch_size * self.length


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """Settings of one tuning run; as published for State-offset Tuning where nothing is given.

    Args:
        rate: learning rate of everything; None for the published one of each method.
        rates: learning rates of groups of parameters by name (e.g. ``state-offset-y``), which go
            before ``rate``.
        epochs: passes over the training split, > 0; None if ``steps`` is given.
        steps: optimiser steps, ≥ 1; None to count epochs.
        batch_size: sequences per step and process, ≥ 1.
        accumulate: batches per optimiser step, ≥ 1.
        optimizer: ``"adamw"`` for all, ``"muon"`` for matrices of adapters and AdamW for the rest,
            or ``"auto"``: Muon for the methods that it was measured to help.
        weight_decay: of either, ≥ 0.
        warmup: fraction of all steps with a linearly rising rate, in [0, 1).
        schedule: ``"linear"`` or ``"cosine"`` to 0, or ``"constant"``.
        clip_norm: largest gradient norm; 0 for no limit.
        evaluate_every: steps between two looks at the validation split, ≥ 1; None for 20 looks.
        patience: stop after this many looks without a better one; None for never.
        precision: ``"float32"``, or ``"bfloat16"`` autocast over float32 masters.
        gradient_checkpointing: recompute activations in the backward pass.
        device: ``"cpu"`` or ``"cuda"``.
        seed: everything random is derived from it.
    """

    rate: float | None = None
    rates: Mapping[str, float] = field(default_factory=dict)
    epochs: float | None = None
    steps: int | None = None
    batch_size: int = 4
    accumulate: int = 1
    optimizer: str = "auto"
    weight_decay: float = 0.0
    warmup: float = 0.0
    schedule: Shape = "linear"
    clip_norm: float = 1.0
    evaluate_every: int | None = None
    patience: int | None = None
    precision: str = "float32"
    gradient_checkpointing: bool = False
    device: str = "cpu"
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("batch_size", "accumulate"):
            check_integer(name, getattr(self, name), at_least=1)
        for name in ("steps", "evaluate_every", "patience"):
            if getattr(self, name) is not None:
                check_integer(name, getattr(self, name), at_least=1)
        check_integer("seed", self.seed, at_least=0)
        if self.steps is not None and self.epochs is not None:
            raise InputError("steps and epochs both set the length", allowed="one of them")
        for name, value in {"rate": self.rate, "epochs": self.epochs, **self.rates}.items():
            if value is not None:
                check_number(name, value, above=0)
        for name in ("weight_decay", "clip_norm"):
            check_number(name, getattr(self, name), at_least=0)
        check_number("warmup", self.warmup, at_least=0, below=1)
        check_choice("optimizer", self.optimizer, OPTIMIZERS)
        check_choice("schedule", self.schedule, get_args(Shape))
        check_choice("precision", self.precision, PRECISIONS)
        check_flag("gradient_checkpointing", self.gradient_checkpointing)
        check_choice("device", self.device, ("cpu", "cuda"))

    def total_steps(self, examples: int, processes: int) -> int:
        """Return how many optimiser steps the run has: ``steps``, or as many as the epochs need."""
        if self.steps is not None:
            return self.steps
        per_step = self.batch_size * self.accumulate * processes
        return max(1, round((self.epochs or PUBLISHED_EPOCHS) * -(-examples // per_step)))

    def look_every(self, total: int) -> int:
        """Return the steps between two looks at the validation split."""
        return self.evaluate_every or max(1, -(-total // VALIDATIONS))
