"""One tuning run: from a `Work` to the weights that validate best."""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ssmith.core.errors import InputError, UnsupportedError
from ssmith.core.optional import require
from ssmith.core.seeds import derive
from ssmith.tune.training.checkpoint import latest
from ssmith.tune.training.work import Training, Work


def train_(model: nn.Module, work: Work) -> Training:
    """Train a model's groups in place, and leave it with the weights that validated best.

    Runs on transformers' ``Trainer``. In a process started by ``torchrun`` or ``accelerate
    launch`` it shares each step with the others. A run that is killed and started again with the
    same ``place`` ends with the same weights, to the last bit on the same machine.

    Args:
        model: every parameter that requires a gradient is in one of the groups.
        work: see `Work`.

    Returns:
        What happened.

    Raises:
        InputError: if a parameter is trained and in no group, or in two.
        UnsupportedError: if several devices would share one process (``DataParallel``).
        NumericalError: if a loss is not finite.
        ArtefactError: if the checkpoint belongs to another run.
        MissingExtraError: if transformers or accelerate is not installed.
    """
    transformers = require("transformers", extra="hf", purpose="tuning")
    require("accelerate", extra="hf", purpose="tuning")
    _check_groups(model, work)
    with _global_state_kept(), _settings_kept(model), tempfile.TemporaryDirectory() as nowhere:
        arguments = _arguments(transformers, work, nowhere)
        total = work.config.total_steps(len(work.train), arguments.world_size)
        arguments.max_steps = total
        if work.config.gradient_checkpointing:
            _checkpoint_activations(model)
        trainer = import_module("ssmith.tune.training.trainer")
        shell = model if isinstance(model, transformers.PreTrainedModel) else _Shell(model)
        runner = trainer.TuningTrainer(shell, arguments, work, total)
        found = None if work.place is None else latest(work.place)
        start = _history(runner, found)
        if start < total and not _stopped(trainer, runner):
            runner.train(resume_from_checkpoint=None if found is None else str(found))
        if not work.keep_last:
            work.write(runner.best)
        # Autocast wraps the model's forward for good; what is left must be the user's model.
        runner.accelerator.unwrap_model(shell, keep_fp32_wrapper=False)
        model.eval()
        looks = runner.looks
        best = looks[len(looks) - 1 - trainer.since_best(looks)]["step"] if looks else 0
        return Training(
            best_step=best,
            steps=len(runner.losses),
            losses=runner.losses,
            looks=looks,
            stopped_early=len(runner.losses) < total,
            seconds=runner.seconds,
            tokens_per_second=runner.tokens / runner.seconds if runner.seconds else None,
            processes=arguments.world_size,
        )


class _Shell(nn.Module):
    """A model as the trainer sees it: without a configuration that it would write into."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        x: Tensor | None = None,
        lengths: Tensor | None = None,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
    ) -> Tensor:
        """Run the model on what is given."""
        given = {
            "x": x,
            "lengths": lengths,
            "input_ids": input_ids,
            "attention_mask": attention_mask,
        }
        out: Tensor = self.model(**{name: item for name, item in given.items() if item is not None})
        return out


def is_main_process() -> bool:
    """Return whether this process is the one that writes and prints."""
    return int(os.environ.get("RANK", "0")) == 0


def _history(runner: Any, found: Any) -> int:
    """Return the steps that were done before, and read them if there are any."""
    if found is None:
        return 0
    runner._load_from_checkpoint(str(found))
    return len(runner.losses)


def _stopped(trainer: Any, runner: Any) -> bool:
    patience = runner.work.config.patience
    return patience is not None and trainer.since_best(runner.looks) >= patience


def _arguments(transformers: Any, work: Work, nowhere: str) -> Any:
    config = work.config
    if config.device == "cuda" and not torch.cuda.is_available():
        raise InputError("device 'cuda' is not there", allowed="cpu")
    arguments = transformers.TrainingArguments(
        output_dir=nowhere,
        max_steps=1,
        per_device_train_batch_size=config.batch_size,
        gradient_accumulation_steps=config.accumulate,
        max_grad_norm=config.clip_norm,
        bf16=config.precision == "bfloat16",
        use_cpu=config.device == "cpu",
        # Naming a backend asks for a process group, which only a launcher prepares.
        ddp_backend="gloo" if config.device == "cpu" and "WORLD_SIZE" in os.environ else None,
        ddp_find_unused_parameters=False,
        seed=derive(config.seed, "tune") % 2**31,
        data_seed=derive(config.seed, "tune", "order") % 2**31,
        report_to=list(config.report_to) or "none",
        logging_strategy="steps" if config.report_to else "no",
        eval_strategy="no",
        save_strategy="no",
        remove_unused_columns=False,
        dataloader_pin_memory=config.device != "cpu",
        disable_tqdm=True,
    )
    if arguments.n_gpu > 1:
        raise UnsupportedError(
            f"one process would drive {arguments.n_gpu} devices with DataParallel",
            allowed="one process for each device",
            next_step=f"start it with torchrun --nproc-per-node {arguments.n_gpu}, "
            "or show it one device with CUDA_VISIBLE_DEVICES",
        )
    return arguments


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


@contextmanager
def _settings_kept(model: nn.Module) -> Iterator[None]:
    """Leave a transformers model's configuration as it was: the trainer turns caching off."""
    config: Any = getattr(model, "config", None)
    before = getattr(config, "use_cache", None)
    try:
        yield
    finally:
        if before is not None:
            config.use_cache = before


@contextmanager
def _global_state_kept() -> Iterator[None]:
    """Leave the process's random generators as they were: the trainer seeds them all."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
