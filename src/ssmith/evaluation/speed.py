"""Speed: two models timed in turns, so that a busy machine slows both alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from ssmith.core.errors import InputError, UnsupportedError
from ssmith.core.layers import Finding
from ssmith.core.sequences import Sequences
from ssmith.core.times import Times
from ssmith.core.words import number_of
from ssmith.evaluation.running import (
    device_of,
    dtype_of,
    evaluating,
    inputs_for,
    run_forward,
    stepping,
)
from ssmith.evaluation.timing import Run, Timing, check_seconds, time_pair

_STEPS_BEFORE = 3


@contextmanager
def using_threads(count: int | None) -> Iterator[int]:
    """Use ``count`` threads inside the block (None: leave as it is); yield the count."""
    was = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(was)


@dataclass(frozen=True, kw_only=True)
class SpeedConfig:
    """Settings of a speed measurement.

    Args:
        seconds: time for each of the three measurements, > 0.
        min_repeats: samples of each model at least, ≥ 3.
        threads: CPU threads, ≥ 1; None leaves PyTorch's setting.
        step_batch_size: sequences that step together, ≥ 1.
    """

    seconds: float | int = 3.0
    min_repeats: int = 7
    threads: int | None = None
    step_batch_size: int = 1

    def __post_init__(self) -> None:
        """Check the numbers."""
        check_seconds(self.seconds)
        for name in ("threads", "step_batch_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name} is {value}", allowed="an integer ≥ 1")


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Times of two models on the same batch.

    Args:
        path: what was run, where, in which dtype, on how many threads.
        threads: CPU threads.
        batch_size: sequences of one forward pass.
        length: steps of one forward pass.
        step_batch_size: sequences that step together.
        per_batch: one forward pass.
        state_space_per_batch: its state space part alone, None if not measured.
        per_step: one time step, None if not measured.
        why_null: name of a missing timing → reason.
    """

    path: str
    threads: int
    batch_size: int
    length: int
    step_batch_size: int
    per_batch: Timing
    state_space_per_batch: Timing | None
    per_step: Timing | None
    why_null: dict[str, str] = field(default_factory=dict)

    @property
    def per_sequence(self) -> Times:
        """Times of a forward pass per sequence."""
        return self.per_batch.times.over(self.batch_size)

    def findings(self) -> tuple[Finding, ...]:
        """Return which times were still changing when they began to count."""
        named = {
            "one batch": self.per_batch,
            "the state space part of it": self.state_space_per_batch,
            "one step": self.per_step,
        }
        return tuple(
            Finding(layer="", kind="unsettled", message=f"the time of {name} {timing.unsettled}")
            for name, timing in named.items()
            if timing is not None and timing.unsettled
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the speed section of a receipt."""
        found: dict[str, Any] = {
            "path": self.path,
            "threads": self.threads,
            "batch_size": self.batch_size,
            "length": self.length,
            "step_batch_size": self.step_batch_size,
            "repeats": len(self.per_batch.before),
        }
        for name in ("per_batch", "state_space_per_batch", "per_step"):
            timing: Timing | None = getattr(self, name)
            found[name] = (
                {"before": None, "after": None, "why": self.why_null.get(name, "not measured")}
                if timing is None
                else timing.as_dict()
            )
        return found


def measure_speed(
    before: nn.Module,
    after: nn.Module,
    batch: Sequences,
    *,
    config: SpeedConfig | None = None,
    state_space: tuple[Run, Run] | None = None,
) -> Speed:
    """Time two models in turns on one batch: a forward pass, one step, the state space part.

    Args:
        before: the first model.
        after: the second model, on the same device and in the same dtype.
        batch: the sequences of one forward pass, at least one.
        config: settings.
        state_space: runs of the state space parts alone, (before, after), or None.

    Returns:
        The times; a model that cannot step has no time per step, with the reason.

    Raises:
        InputError: if the models differ in device or dtype, or the batch is empty.
    """
    config = config or SpeedConfig()
    if not len(batch):
        raise InputError("the batch holds no sequences", allowed="at least one")
    device, dtype = common_place(before, after)
    x, lengths = inputs_for(before, batch)
    wait = waiter_for(device)
    why: dict[str, str] = {}

    def pair(run_a: Run, run_b: Run) -> Timing:
        return time_pair(
            run_a,
            run_b,
            seconds=config.seconds,
            min_repeats=config.min_repeats,
            synchronise=wait,
        )

    with evaluating(before, after), using_threads(config.threads) as threads:
        per_batch = pair(
            lambda: run_forward(before, x, lengths), lambda: run_forward(after, x, lengths)
        )
        part = None if state_space is None else pair(*state_space)
        per_step = None
        try:
            per_step = pair(
                _one_step(before, batch, config.step_batch_size),
                _one_step(after, batch, config.step_batch_size),
            )
        except UnsupportedError as error:
            why["per_step"] = error.what
    return Speed(
        path=f"torch, {path_text(device, dtype, threads)}",
        threads=threads,
        batch_size=len(batch),
        length=x.shape[1],
        step_batch_size=config.step_batch_size,
        per_batch=per_batch,
        state_space_per_batch=part,
        per_step=per_step,
        why_null=why,
    )


def common_place(before: nn.Module, after: nn.Module) -> tuple[torch.device, torch.dtype]:
    """Return the device and dtype of two models; times of unequal ones would say nothing."""
    places = [(device_of(model), dtype_of(model)) for model in (before, after)]
    if places[0] != places[1]:
        raise InputError(
            f"the models are on {places[0]} and {places[1]}", allowed="the same device and dtype"
        )
    return places[0]


def path_text(device: torch.device, dtype: torch.dtype, threads: int) -> str:
    """Return where, in which dtype and on how many threads a run was timed."""
    return f"{device.type}, {str(dtype).removeprefix('torch.')}, {number_of(threads, 'thread')}"


def waiter_for(device: torch.device) -> Callable[[], object] | None:
    """Return what waits for the device, or None where work is done when a call returns."""
    if device.type == "cuda":
        return lambda: torch.cuda.synchronize(device)
    return None


def _one_step(model: nn.Module, batch: Sequences, size: int) -> Run:
    """Return a run of one step from a state that has already seen a few steps."""
    x, _ = inputs_for(model, batch)
    x = x[:1].expand(size, *x.shape[1:])
    stepper = stepping(model)
    state = stepper.initial_state(size)
    for t in range(min(_STEPS_BEFORE, x.shape[1])):
        _, state = stepper.step(x[:, t], state)
    return lambda: stepper.step(x[:, 0], state)
