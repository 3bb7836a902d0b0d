"""What speed and memory are measured on: a forward pass, one more step, the state between two."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ssmith.core.errors import InputError, UnsupportedError
from ssmith.core.rows import Rows
from ssmith.core.sequences import Sequences
from ssmith.core.tokens import TokenWindows
from ssmith.core.trees import place_of
from ssmith.evaluation.running import dtype_of, inputs_for, stepping
from ssmith.evaluation.timing import Run
from ssmith.families.hf import engine
from ssmith.families.hf.running import forward, logits_of
from ssmith.families.lti import LTILayer

_STEPS_BEFORE = 3
# Enough for a convolution's window to hold only real tokens.
_PROMPT = 8


@dataclass(frozen=True, kw_only=True)
class Runs:
    """How one network is run on one batch; every run is called inside ``around``.

    Args:
        batch: one forward pass.
        step: of a number of rows, one more time step from a state that has seen a few.
        state: of a number of rows, the state between two steps.
        state_space: the state space part of the forward pass alone; None if it is not apart.
        why_null: name of what there is not → reason.
        around: a context in which the network runs; what it yields names the path.
        rows: of the forward pass.
        length: its steps, 0 where they are not known.
    """

    batch: Run
    step: Callable[[int], Run]
    state: Callable[[int], Any]
    state_space: Run | None
    why_null: dict[str, str]
    around: Callable[[], AbstractContextManager[str]]
    rows: int
    length: int


def runs_of(model: nn.Module, rows: Rows) -> Runs:
    """Return how a network is run on rows.

    Rows are those of one forward pass; of windows of text none padded; of other batches the first.
    What a network cannot do raises `UnsupportedError` when it is asked for.
    """
    if not len(rows):
        raise InputError("the batch holds no rows", allowed="at least one")
    if isinstance(rows, TokenWindows):
        return _of_text(model, rows)
    if isinstance(rows, Sequences):
        return _of_sequences(model, rows)
    batch = rows.batch(rows.ranges(len(rows))[0])
    missing = "a network of other inputs has no step that is known"
    return Runs(
        batch=lambda: rows.forward(model, batch),
        step=lambda size: _refuse(missing),
        state=lambda count: _refuse(missing),
        state_space=None,
        why_null={"state_space_per_batch": "not measured"},
        around=lambda: nullcontext("torch"),
        rows=batch.count,
        length=batch.valid.shape[1] if isinstance(batch.valid, Tensor) else 0,
    )


def _refuse(missing: str) -> Any:
    raise UnsupportedError(missing, allowed="sequence models and language models")


def _of_sequences(model: nn.Module, part: Sequences) -> Runs:
    x, lengths = inputs_for(model, part)

    def stepped(size: int, steps: int) -> tuple[Any, Tensor, Any]:
        first = x[:1].expand(size, *x.shape[1:])
        stepper = stepping(model)
        state = stepper.initial_state(size)
        for t in range(min(steps, x.shape[1])):
            _, state = stepper.step(first[:, t], state)
        return stepper, first[:, 0], state

    def step(size: int) -> Run:
        stepper, x_t, state = stepped(size, _STEPS_BEFORE)
        return lambda: stepper.step(x_t, state)

    layers = [module for module in model.modules() if isinstance(module, LTILayer)]
    return Runs(
        batch=lambda: model(x, lengths),
        step=step,
        state=lambda count: stepped(count, 1)[2],
        state_space=_state_space(model, layers, part) if layers else None,
        why_null={} if layers else {"state_space_per_batch": "not measured"},
        around=lambda: nullcontext("torch"),
        rows=len(part),
        length=x.shape[1],
    )


def _state_space(model: nn.Module, layers: list[LTILayer], part: Sequences) -> Run:
    """Run every state space layer alone, on noise: the time does not depend on the values."""
    stream = torch.Generator().manual_seed(0)
    b, length = part.x.shape[:2]
    inputs = [
        torch.randn(b, length, layer.width, generator=stream).to(place_of(model), dtype_of(model))
        for layer in layers
    ]

    def run() -> None:
        for layer, u in zip(layers, inputs, strict=True):
            layer(u)

    return run


def _of_text(model: Any, windows: TokenWindows) -> Runs:
    if windows.pad_share > 0:
        raise InputError(f"{windows.pad_share:.1%} of the windows is padding", allowed="none")
    ids = windows.ids.to(place_of(model))

    def prompted(size: int) -> tuple[Tensor, Any]:
        row = ids[:1].expand(size, -1)
        return row[:, :1], forward(model, row[:, :_PROMPT], None)[1]

    def step(size: int) -> Run:
        token, cache = prompted(size)
        return lambda: forward(model, token, cache)

    @contextmanager
    def around() -> Any:
        with engine(model) as report:
            yield ", ".join(f"{item.op} {item.backend}" for item in report.paths)

    return Runs(
        batch=lambda: logits_of(model, ids),
        step=step,
        state=lambda count: prompted(count)[1],
        state_space=None,
        why_null={"state_space_per_batch": "timed alone by `make bench-scan`"},
        around=around,
        rows=len(windows),
        length=ids.shape[1],
    )
