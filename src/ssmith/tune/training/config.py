"""The settings of a tuning run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ssmith.core.checks import check_choice, check_flag, check_integer, check_number
from ssmith.core.errors import InputError

PRECISIONS = ("float32", "bfloat16")
SCHEDULES = ("linear", "cosine", "constant")
VALIDATIONS = 20
PUBLISHED_EPOCHS = 10


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
        weight_decay: AdamW's, ≥ 0.
        warmup: fraction of all steps with a linearly rising rate, in [0, 1).
        schedule: ``"linear"`` or ``"cosine"`` to 0, or ``"constant"``.
        clip_norm: largest gradient norm; 0 for no limit.
        evaluate_every: steps between two looks at the validation split, ≥ 1; None for 20 looks.
        patience: stop after this many looks without a better one; None for never.
        precision: ``"float32"``, or ``"bfloat16"`` autocast over float32 masters.
        gradient_checkpointing: recompute activations in the backward pass.
        device: ``"cpu"`` or ``"cuda"``.
        seed: everything random is derived from it.
        report_to: trackers of transformers' ``Trainer``; none by default.

    Raises:
        InputError: if a value is outside its domain.
    """

    rate: float | None = None
    rates: Mapping[str, float] = field(default_factory=dict)
    epochs: float | None = None
    steps: int | None = None
    batch_size: int = 4
    accumulate: int = 1
    weight_decay: float = 0.0
    warmup: float = 0.0
    schedule: str = "linear"
    clip_norm: float = 1.0
    evaluate_every: int | None = None
    patience: int | None = None
    precision: str = "float32"
    gradient_checkpointing: bool = False
    device: str = "cpu"
    seed: int = 0
    report_to: tuple[str, ...] = ()

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
        check_choice("schedule", self.schedule, SCHEDULES)
        check_choice("precision", self.precision, PRECISIONS)
        check_flag("gradient_checkpointing", self.gradient_checkpointing)
        check_choice("device", self.device, ("cpu", "cuda"))

    def total_steps(self, examples: int, processes: int) -> int:
        """Return how many optimiser steps the run has.

        Args:
            examples: in the training split.
            processes: that share each step.

        Returns:
            ``steps``, or as many as the epochs need (10 where neither is given).
        """
        if self.steps is not None:
            return self.steps
        per_step = self.batch_size * self.accumulate * processes
        return max(1, round((self.epochs or PUBLISHED_EPOCHS) * -(-examples // per_step)))

    def look_every(self, total: int) -> int:
        """Return the steps between two looks at the validation split."""
        return self.evaluate_every or max(1, -(-total // VALIDATIONS))

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dict."""
        return {**asdict(self), "rates": dict(self.rates), "report_to": list(self.report_to)}
