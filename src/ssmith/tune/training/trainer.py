"""transformers' Trainer with our loss, our checkpoints (nothing pickled) and our early stop."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from ssmith.core.errors import ArtefactError, NumericalError
from ssmith.core.files import to_json
from ssmith.tune.training.checkpoint import (
    Checkpoint,
    read_checkpoint,
    write_checkpoint,
)
from ssmith.tune.training.objectives import Batch
from ssmith.tune.training.schedule import rate_factor
from ssmith.tune.training.work import Work


class TuningTrainer(Trainer):  # type: ignore[misc]
    """The loop of transformers around a `Work`.

    Args:
        model: holds the groups' parameters; everything else is left as it is.
        arguments: of transformers.
        work: see `Work`.
        total: optimiser steps of the whole run.
    """

    def __init__(
        self, model: nn.Module, arguments: TrainingArguments, work: Work, total: int
    ) -> None:
        self.work = work
        self.total = total
        self.losses: list[float] = []
        self.looks: list[dict[str, Any]] = []
        self.best = _copied(work.read())
        self.seconds = 0.0
        self.tokens = 0
        self._resumed: Checkpoint | None = None
        self.optimizer: Any = None
        self.lr_scheduler: Any = None
        super().__init__(
            model=model,
            args=arguments,
            train_dataset=work.train,
            data_collator=work.objective.collate,
            callbacks=[_Flow(self)],
        )
        # They print on stdout; the listener tells instead.
        self.remove_callback(PrinterCallback)
        self.remove_callback(ProgressCallback)

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Return AdamW over the groups, each with its own rate."""
        if self.optimizer is None:
            decay = self.work.config.weight_decay
            groups = [
                {"params": list(group.parameters.values()), "lr": group.rate, "weight_decay": decay}
                for group in self.work.groups
            ]
            self.optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.999))
        made: torch.optim.Optimizer = self.optimizer
        return made

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> torch.optim.lr_scheduler.LRScheduler:
        """Return the schedule of the rates, counted in optimiser steps."""
        config = self.work.config
        if self.lr_scheduler is None:
            self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(
                optimizer or self.optimizer,
                lambda step: rate_factor(step, self.total, config.warmup, config.schedule),
            )
        made: torch.optim.lr_scheduler.LRScheduler = self.lr_scheduler
        return made

    def compute_loss(
        self,
        model: nn.Module,
        inputs: Batch,
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor:
        """Return the batch's share of the mean loss of the whole step, over all processes."""
        loss = self.work.objective.measure(model, inputs)[:, 0].sum()
        # Gradients are averaged over processes afterwards, so each loss is scaled up before.
        share: Tensor = loss * self.accelerator.num_processes / num_items_in_batch
        return share

    def training_step(
        self, model: nn.Module, inputs: Batch, num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """Take the batch's gradients, and keep count of loss, tokens and time."""
        start = time.perf_counter()
        loss: Tensor = super().training_step(model, inputs, num_items_in_batch)
        value = float(self.accelerator.reduce(loss.detach(), "mean"))
        if not math.isfinite(value):
            raise NumericalError(
                f"the training loss became {value} at step {self.state.global_step + 1}",
                next_step="lower the rate",
            )
        if len(self.losses) == self.state.global_step:
            self.losses.append(0.0)
        self.losses[-1] += value
        self.tokens += _tokens(inputs)
        self.seconds += time.perf_counter() - start
        return loss

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Look at the validation split; keep the weights if none were better."""
        self.control.should_evaluate = False
        means = self.validate()
        score = self.work.objective.score(means)
        before = self.looks[-1]["step"] if self.looks else 0
        recent = self.losses[before:]
        self.looks.append(
            {
                "step": self.state.global_step,
                "train_loss": sum(recent) / max(1, len(recent)),
                "validation": means,
                "score": list(score),
            }
        )
        if since_best(self.looks) == 0:
            self.best = _copied(self.work.read())
        patience = self.work.config.patience
        if patience is not None and since_best(self.looks) >= patience:
            self.control.should_training_stop = True
        return {f"{metric_key_prefix}_{name}": value for name, value in means.items()}

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Return the means over the validation split, each process taking its share."""
        objective, size = self.work.objective, self.work.config.batch_size
        rank, processes = self.accelerator.process_index, self.accelerator.num_processes
        rows = self.work.validation[rank::processes]
        totals = torch.zeros(len(objective.names) + 1, dtype=torch.float64)
        self.model.eval()
        for start in range(0, len(rows), size):
            batch = self._prepare_inputs(objective.collate(rows[start : start + size]))
            with self.accelerator.autocast():
                found = objective.measure(self.model, batch)
            totals[:-1] += found.double().sum(0).cpu()
            totals[-1] += objective.counts(batch).sum().cpu()
        totals = self.accelerator.reduce(totals.to(self.accelerator.device), "sum").cpu()
        means = (totals[:-1] / totals[-1]).tolist()
        if not all(map(math.isfinite, means)):
            raise NumericalError(
                f"the validation loss became {means[0]} at step {self.state.global_step}",
                next_step="lower the rate",
            )
        return dict(zip(objective.names, means, strict=True))

    def _get_num_items_in_batch(
        self, batch_samples: list[Batch], device: torch.device
    ) -> Tensor | None:
        count = sum(int(self.work.objective.counts(batch).sum()) for batch in batch_samples)
        number = torch.tensor(float(max(count, 1)), device=device)
        total: Tensor = self.accelerator.reduce(number, "sum")
        return total

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        random = self._random_state()
        if self.work.place is None or not self.args.should_save:
            return
        moments = {
            f"{index}/{name}": value
            for index, values in self.optimizer.state_dict()["state"].items()
            for name, value in values.items()
        }
        content = Checkpoint(
            trained=self.work.read(),
            best=self.best,
            moments=moments,
            random=random,
            facts={
                "identity": dict(self.work.identity),
                "losses": self.losses,
                "looks": self.looks,
                "schedule": self.lr_scheduler.state_dict() | {"lr_lambdas": None},
            },
        )
        record = dataclasses.asdict(self.state) | {"log_history": [], "stateful_callbacks": {}}
        write_checkpoint(self.work.place, self.state.global_step, content, to_json(record))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        found = read_checkpoint(Path(resume_from_checkpoint))
        if found.facts["identity"] != dict(self.work.identity):
            raise ArtefactError(
                f"{resume_from_checkpoint} belongs to a run with other settings, model or data",
                next_step="give another output, or delete it to start again",
            )
        self._resumed = found
        self.work.write(found.trained)
        self.best = found.best
        self.losses, self.looks = found.facts["losses"], found.facts["looks"]

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if self._resumed is None:
            return
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in self._resumed.moments.items():
            index, _, name = key.partition("/")
            state.setdefault(int(index), {})[name] = value
        groups = self.optimizer.state_dict()["param_groups"]
        schedule = dict(self._resumed.facts["schedule"])
        schedule["lr_lambdas"] = [None] * len(groups)
        self.lr_scheduler.load_state_dict(schedule)
        for group, rate in zip(groups, schedule["_last_lr"], strict=True):
            group["lr"] = rate
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})

    def _random_state(self) -> dict[str, Tensor]:
        """Return the generators' states, a row for each process."""
        states = {"cpu": torch.get_rng_state()}
        if self.accelerator.device.type == "cuda":
            states["cuda"] = torch.cuda.get_rng_state(self.accelerator.device)
        device = self.accelerator.device
        return {
            name: self.accelerator.gather(value[None].to(device)).cpu()
            for name, value in states.items()
        }

    def _load_rng_state(self, checkpoint: str | None) -> None:
        if self._resumed is None:
            return
        rank = self.accelerator.process_index
        torch.set_rng_state(self._resumed.random["cpu"][rank])
        if "cuda" in self._resumed.random:
            torch.cuda.set_rng_state(self._resumed.random["cuda"][rank], self.accelerator.device)


class _Flow(TrainerCallback):  # type: ignore[misc]
    """Look before the first step, every so many and at the end; tell the listener of each."""

    def __init__(self, trainer: TuningTrainer) -> None:
        self.trainer = trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if not self.trainer.looks:
            self.trainer.evaluate()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        trainer = self.trainer
        every = trainer.work.config.look_every(trainer.total)
        if state.global_step % every == 0 or state.global_step >= trainer.total:
            control.should_evaluate = control.should_save = True
        note = f"loss {trainer.losses[-1]:.4g}"
        if trainer.seconds > 0:
            note += f", {trainer.tokens / trainer.seconds:,.0f} tokens/s"
        if trainer.looks:
            note += f", validation {trainer.looks[-1]['validation']['loss']:.4g}"
        trainer.work.listener("tune", state.global_step, trainer.total, note)


def since_best(looks: list[dict[str, Any]]) -> int:
    """Return how many looks ago the best one was (0 for none)."""
    if not looks:
        return 0
    scores = [tuple(look["score"]) for look in looks]
    return len(scores) - 1 - scores.index(max(scores))


def _copied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in tensors.items()}


def _tokens(batch: Batch) -> int:
    return int((batch["attention_mask"] if "attention_mask" in batch else batch["lengths"]).sum())
