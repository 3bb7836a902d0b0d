"""Speed: two models timed in turns, so that a busy machine slows both alike."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import nn

from ssmith.core.errors import InputError, UnsupportedError
from ssmith.core.findings import Finding
from ssmith.core.rows import Rows
from ssmith.core.running import evaluating
from ssmith.core.sections import Missing, SpeedSection
from ssmith.core.times import Times
from ssmith.core.trees import place_of
from ssmith.core.words import number_of
from ssmith.evaluation.running import dtype_of
from ssmith.evaluation.runs import runs_of
from ssmith.evaluation.timing import Run, Timing, check_seconds, time_pair


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

    def section(self) -> SpeedSection:
        """Return the speed section of a receipt."""
        part, step = (
            Missing(why=self.why_null.get(name, "not measured")) if timing is None
            else timing.section()
            for name, timing in (
                ("state_space_per_batch", self.state_space_per_batch), ("per_step", self.per_step)
            )
        )  # fmt: skip
        return SpeedSection(
            path=self.path,
            threads=self.threads,
            batch_size=self.batch_size,
            length=self.length,
            step_batch_size=self.step_batch_size,
            repeats=len(self.per_batch.before),
            per_batch=self.per_batch.section(),
            state_space_per_batch=part,
            per_step=step,
        )


def measure_speed(
    before: nn.Module, after: nn.Module, rows: Rows, *, config: SpeedConfig | None = None
) -> Speed:
    """Time two networks in turns on one batch: a forward pass, one step, the state space part.

    The networks are on one device and of one dtype. A network that cannot step has no time per
    step, with the reason.
    """
    settings = config or SpeedConfig()
    device, dtype = _common_place(before, after)
    first, second = runs_of(before, rows), runs_of(after, rows)
    wait = (lambda: torch.cuda.synchronize(device)) if device.type == "cuda" else None
    why = dict(first.why_null)

    def pair(run_a: Run, run_b: Run) -> Timing:
        return time_pair(
            run_a,
            run_b,
            seconds=settings.seconds,
            min_repeats=settings.min_repeats,
            synchronise=wait,
        )

    with (
        first.around() as path,
        second.around(),
        evaluating(before, after),
        using_threads(settings.threads) as threads,
    ):
        per_batch = pair(first.batch, second.batch)
        part, per_step = None, None
        if first.state_space is not None and second.state_space is not None:
            part = pair(first.state_space, second.state_space)
        try:
            per_step = pair(*(item.step(settings.step_batch_size) for item in (first, second)))
        except UnsupportedError as error:
            why["per_step"] = error.what
    where = f"{device.type}, {str(dtype).removeprefix('torch.')}, {number_of(threads, 'thread')}"
    return Speed(
        path=f"{path}{', ' if path == 'torch' else '; '}{where}",
        threads=threads,
        batch_size=first.rows,
        length=first.length,
        step_batch_size=settings.step_batch_size,
        per_batch=per_batch,
        state_space_per_batch=part,
        per_step=per_step,
        why_null=why,
    )


def _common_place(before: nn.Module, after: nn.Module) -> tuple[torch.device, torch.dtype]:
    """Return the device and dtype of two models; times of unequal ones would say nothing."""
    places = [(place_of(model), dtype_of(model)) for model in (before, after)]
    if places[0] != places[1]:
        raise InputError(
            f"the models are on {places[0]} and {places[1]}", allowed="the same device and dtype"
        )
    return places[0]
