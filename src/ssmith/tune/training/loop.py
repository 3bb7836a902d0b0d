"""The one training loop: steps, looks at the validation split, checkpoints that go on exactly."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ssmith.core.details import ValidationLook
from ssmith.core.errors import NumericalError
from ssmith.core.identity import as_json
from ssmith.core.progress import Progress, silent
from ssmith.core.seeds import derive
from ssmith.tune.training.batches import Batches
from ssmith.tune.training.checkpoint import (
    Checkpoint,
    Facts,
    read_checkpoint,
    write_checkpoint,
    write_curve,
)
from ssmith.tune.training.objectives import Batch, Objective
from ssmith.tune.training.optimizers import Optimizers
from ssmith.tune.training.processes import Processes
from ssmith.tune.training.schedule import Schedule

_RECENT = 50
_LOWER = "lower the learning rate"
Validate = Callable[[nn.Module], tuple[dict[str, float], tuple[float, ...]]]
"""Returns what was measured on validation data, and how good it is: larger tuples are better."""


@dataclass(frozen=True, kw_only=True)
class Loop:
    """Everything a training does.

    Args:
        groups: of parameters, with peak rate, decay and optimiser (see `Optimizers`).
        look_every: steps between two looks; another comes after the last step.
        read: returns the trained tensors as they are now; ``write`` puts such tensors back.
        part: rows of a batch; a step of more rows takes several, shared by the processes.
        reseed_every: steps after which the generators (of dropout) are seeded anew; checkpoints
            are written between such stretches.
        patience: looks without a better one before it stops; None for never.
        keep_last: end with the last weights instead of those that validated best.
        save_seconds: time between checkpoints; None to write one at each look.
        identity: JSON-ready facts a checkpoint must share.
    """

    objective: Objective
    batches: Batches
    groups: Sequence[dict[str, Any]]
    schedule: Schedule
    validate: Validate
    look_every: int
    look_first: bool = False
    read: Callable[[], dict[str, Tensor]]
    write: Callable[[Mapping[str, Tensor]], object]
    seed: int
    part: int
    processes: Processes = field(default_factory=Processes)
    reseed_every: int = 1
    betas: tuple[float, float] = (0.9, 0.999)
    clip_norm: float = 1.0
    autocast: bool = False
    patience: int | None = None
    keep_last: bool = False
    checkpoint: Path | None = None
    save_seconds: float | None = None
    identity: Mapping[str, Any] = field(default_factory=dict)
    stage: str = "train"
    progress: Progress = silent


@dataclass(frozen=True, kw_only=True)
class Training:
    """What a training did.

    The model has the weights of ``best_step`` now, 0 for those it started with. ``seconds`` is the
    time of the steps, without validation, over all parts of the run; tokens are tokens or steps of
    series.
    """

    best_step: int
    steps: int
    losses: list[float]
    looks: list[ValidationLook]
    stopped_early: bool
    processes: int = 1
    seconds: float = field(default=0.0, compare=False)
    tokens_per_second: float | None = field(default=None, compare=False)


def run_(model: nn.Module, loop: Loop) -> Training:
    """Train a model in place; the process's random generators are left as they were.

    Killed at any point and called again with the same checkpoint, it goes on where it was and ends
    with the same weights, to the last bit on the same machine.
    """
    with torch.random.fork_rng():
        return _Run(model, loop).run()


class _Run:
    """A training under way."""

    def __init__(self, model: nn.Module, loop: Loop) -> None:
        self.model, self.loop = model, loop
        self.device = next(model.parameters()).device
        self.optimizer = Optimizers(loop.groups, loop.betas)
        self.identity = as_json({**loop.identity, "processes": loop.processes.count})
        self.losses: list[float] = []
        self.looks: list[ValidationLook] = []
        self.best: dict[str, Tensor] = {}
        self.seconds = 0.0
        self.tokens = 0.0
        self.unit = "tokens"
        # Sum of losses since the look before, and of what they were means of.
        self.since = [0.0, 0.0]
        if loop.checkpoint is not None and loop.checkpoint.exists():
            self._go_on(loop.checkpoint)
        self.saved = time.monotonic()

    def run(self) -> Training:
        loop, total = self.loop, self.loop.schedule.steps
        if loop.look_first and not self.looks:
            self._look()
        patience = math.inf if loop.patience is None else loop.patience
        while len(self.losses) < total and since_best(self.looks) < patience:
            self._step()
            ended = len(self.losses) == total
            looked = ended or len(self.losses) % loop.look_every == 0
            if looked:
                self._look()
            waited = time.monotonic() - self.saved
            due = looked if loop.save_seconds is None else ended or waited > loop.save_seconds
            if due and loop.checkpoint is not None:
                self._save(loop.checkpoint)
            loop.progress(loop.stage, len(self.losses), total, self._note())
        if self.best:
            loop.write(self.best)
        self.model.eval()
        keeps_last = loop.keep_last or not self.looks
        best = self.looks[-1 - since_best(self.looks)].step if not keeps_last else len(self.losses)
        return Training(
            best_step=best,
            steps=len(self.losses),
            losses=self.losses,
            looks=self.looks,
            stopped_early=len(self.losses) < total,
            processes=loop.processes.count,
            seconds=self.seconds,
            tokens_per_second=self.tokens / self.seconds if self.seconds else None,
        )

    def _step(self) -> None:
        loop, step, started = self.loop, len(self.losses), time.perf_counter()
        self.optimizer.set_rates(loop.schedule.rate(1.0, step))
        if step % loop.reseed_every == 0:
            rank = (loop.processes.rank,) if loop.processes.count > 1 else ()
            torch.manual_seed(derive(loop.seed, "dropout", step // loop.reseed_every, *rank))
        if not self.model.training:
            self.model.train()
        parts = loop.batches.rows(step).split(loop.part)
        batches = [
            loop.batches.collate(part)
            for part in parts[loop.processes.rank :: loop.processes.count]
        ]
        counts = [int(loop.objective.counts(batch).sum()) for batch in batches]
        total = max(1.0, loop.processes.total(sum(counts), self.device))
        self.optimizer.zero_grad()
        loss = sum(self._learn(batch, n / total) for batch, n in zip(batches, counts, strict=True))
        loss = loop.processes.total(loss, self.device)
        self._share_gradients()
        if loop.clip_norm:
            nn.utils.clip_grad_norm_(self.model.parameters(), loop.clip_norm)
        self.optimizer.step()
        self.losses.append(loss)
        self.since[0] += loss * total
        self.since[1] += total
        self.seconds += time.perf_counter() - started

    def _learn(self, batch: Batch, share: float) -> float:
        """Take a batch's gradients; return its part of the mean loss of the step."""
        batch = {name: value.to(self.device) for name, value in batch.items()}
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.loop.autocast):
            loss = self.loop.objective.loss(self.model, batch)
        value = loss.item() * share
        if not math.isfinite(value):
            where = f"at step {len(self.losses) + 1}"
            raise NumericalError(f"the training loss became {value} {where}", next_step=_LOWER)
        (loss * share).backward()
        valid = batch.get("attention_mask", batch.get("lengths"))
        self.unit = "tokens" if "input_ids" in batch else "time steps"
        self.tokens += int(valid.sum()) if valid is not None else batch["input_ids"].numel()
        return value

    def _share_gradients(self) -> None:
        if self.loop.processes.count == 1:
            return
        for item in self.optimizer.parameters():
            if item.requires_grad:
                # A process without rows in a short last step has no gradients of its own.
                item.grad = torch.zeros_like(item) if item.grad is None else item.grad
                self.loop.processes.sum_(item.grad)

    def _look(self) -> None:
        loss = self.since[0] / self.since[1] if self.since[1] else 0.0
        means, score = self.loop.validate(self.model)
        if not all(map(math.isfinite, [*means.values(), *score])):
            where = f"at step {len(self.losses)}"
            raise NumericalError(f"the validation result became {means} {where}", next_step=_LOWER)
        look = ValidationLook(step=len(self.losses), train_loss=loss, validation=means, score=score)
        self.looks.append(look)
        self.since = [0.0, 0.0]
        if not self.loop.keep_last and since_best(self.looks) == 0:
            self.best = {name: value.detach().clone() for name, value in self.loop.read().items()}

    def _save(self, path: Path) -> None:
        if self.loop.processes.rank == 0:
            content = Checkpoint(
                losses=torch.tensor(self.losses, dtype=torch.float64),
                weights=self.loop.read(),
                best=self.best,
                moments=self.optimizer.moments(),
                facts=Facts(
                    identity=self.identity,
                    looks=tuple(self.looks),
                    since=(self.since[0], self.since[1]),
                    seconds=self.seconds,
                    tokens=self.tokens,
                ),
            )
            write_checkpoint(path, content)
        self.saved = time.monotonic()

    def _go_on(self, path: Path) -> None:
        there = read_checkpoint(path, self.identity, self.loop.read())
        if self.loop.processes.rank == 0:
            write_curve(path, there)
        self.loop.write(there.weights)
        self.best = {name: value.to(self.device) for name, value in there.best.items()}
        self.optimizer.set_moments(there.moments)
        self.losses = there.losses.tolist()
        self.looks, self.since = list(there.facts.looks), list(there.facts.since)
        self.seconds, self.tokens = there.facts.seconds, there.facts.tokens

    def _note(self) -> str:
        recent = self.losses[-_RECENT:]
        words = [f"loss {sum(recent) / len(recent):.4g}"]
        if self.looks:
            words += [
                f"validation {name.replace('_', ' ')} {value:.4g}"
                for name, value in list(self.looks[-1].validation.items())[:1]
            ]
        if self.seconds > 0:
            left = self.loop.schedule.steps - len(self.losses)
            words += [f"{self.tokens / self.seconds:,.0f} {self.unit}/s"]
            words += [f"{left * self.seconds / len(self.losses) / 60:.0f} min left"]
        return ", ".join(words)


def since_best(looks: Sequence[ValidationLook]) -> int:
    """Return how many looks ago the best one was (0 for none)."""
    if not looks:
        return 0
    scores = [look.score for look in looks]
    return len(scores) - 1 - scores.index(max(scores))
