"""Speed: two models timed in turns, so that a busy machine slows both alike."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import torch
from torch import nn

from ssmith.core.errors import InputError, UnsupportedError
from ssmith.core.sequences import Sequences
from ssmith.core.times import Times
from ssmith.evaluate.running import (
    device_of,
    dtype_of,
    evaluating,
    inputs_for,
    run_forward,
    stepping,
)

Run = Callable[[], object]
_SHORTEST_SAMPLE = 1e-3
_MOST_LOOPS = 10_000
_STEPS_BEFORE = 3


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Two runs timed in turns: before, after, before, after and so on.

    Args:
        before: seconds per run of each sample, in the order measured.
        after: the same for the second run.
        loops: runs behind each sample.
    """

    before: tuple[float, ...]
    after: tuple[float, ...]
    loops: int

    @property
    def medians(self) -> tuple[float, float]:
        """Median seconds per run, (before, after)."""
        return median(self.before), median(self.after)

    @property
    def minima(self) -> tuple[float, float]:
        """Least seconds per run, (before, after): the time with the least disturbance."""
        return min(self.before), min(self.after)

    @property
    def times(self) -> Times:
        """What may be said of the change: see `Times`."""
        return Times(medians=self.medians, least=self.minima)

    @property
    def speedup(self) -> float:
        """Median before over median after, above 1 is faster; `times` says whether it counts."""
        first, second = self.medians
        return first / second

    def as_dict(self) -> dict[str, Any]:
        """Return medians, minima and every sample, in seconds."""
        return {
            "before": self.medians[0],
            "after": self.medians[1],
            "minimum": {"before": self.minima[0], "after": self.minima[1]},
            "samples": {"before": list(self.before), "after": list(self.after)},
            "loops": self.loops,
        }


def _check_seconds(seconds: float | int) -> None:
    if not math.isfinite(seconds) or seconds <= 0:
        raise InputError(f"seconds is {seconds}", allowed="a number > 0")


@contextmanager
def _no_collection() -> Iterator[None]:
    """Keep the garbage collector out of the samples."""
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def time_pair(
    run_a: Run,
    run_b: Run,
    *,
    seconds: float | int,
    min_repeats: int = 7,
    synchronise: Callable[[], object] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Timing:
    """Time two runs in turns (A B A B …) until the time is used up.

    Both are run once to warm up. Runs far below a millisecond are looped, so that the clock's
    resolution does not matter.

    Args:
        run_a: the run "before".
        run_b: the run "after".
        seconds: time to spend, > 0; exceeded only to reach ``min_repeats``.
        min_repeats: samples of each run at least, ≥ 3.
        synchronise: waits for the device, if it works asynchronously.
        clock: returns seconds.

    Returns:
        All samples.

    Raises:
        InputError: if a setting is out of range.
    """
    _check_seconds(seconds)
    if min_repeats < 3:
        raise InputError(f"min_repeats is {min_repeats}", allowed="an integer ≥ 3")

    def sample(run: Run, loops: int) -> float:
        start = clock()
        for _ in range(loops):
            run()
        if synchronise is not None:
            synchronise()
        return (clock() - start) / loops

    with _no_collection():
        # The first calls pay for lazy initialisation; only the second ones size the loops.
        sample(run_a, 1), sample(run_b, 1)
        shortest = min(sample(run_a, 1), sample(run_b, 1))
        loops = min(_MOST_LOOPS, max(1, math.ceil(_SHORTEST_SAMPLE / max(shortest, 1e-9))))
        before: list[float] = []
        after: list[float] = []
        end = clock() + seconds
        while len(before) < min_repeats or clock() < end:
            before.append(sample(run_a, loops))
            after.append(sample(run_b, loops))
    return Timing(before=tuple(before), after=tuple(after), loops=loops)


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
        _check_seconds(self.seconds)
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
    plural = "s" if threads != 1 else ""
    return f"{device.type}, {str(dtype).removeprefix('torch.')}, {threads} thread{plural}"


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
