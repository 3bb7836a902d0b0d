"""Speed and memory of two language models on the same windows, on the scan engine."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor, nn

from ssmith.core.errors import InputError
from ssmith.core.tokens import TokenWindows
from ssmith.evaluation.memory import Memory, parameter_bytes, peak_bytes
from ssmith.evaluation.running import device_of, evaluating
from ssmith.evaluation.speed import (
    Speed,
    SpeedConfig,
    common_place,
    path_text,
    using_threads,
    waiter_for,
)
from ssmith.evaluation.timing import Timing, time_pair
from ssmith.families.hf.engine import engine
from ssmith.families.hf.running import forward, logits_of

# Enough for the convolution's window to hold only real tokens.
_PROMPT = 8


def measure_language_speed(
    before: nn.Module, after: nn.Module, windows: TokenWindows, config: SpeedConfig | None = None
) -> Speed:
    """Time two language models in turns: a forward pass over windows, and one more token.

    Args:
        before: the first model.
        after: the second model, on the same device and in the same dtype.
        windows: of one forward pass, none padded.
        config: settings.

    Returns:
        The times.

    Raises:
        InputError: if the models differ in device or dtype, or a window is padded.
    """
    settings = config or SpeedConfig()
    if windows.pad_share > 0:
        raise InputError(f"{windows.pad_share:.1%} of the windows is padding", allowed="none")
    device, dtype = common_place(before, after)
    ids = windows.ids.to(device)

    def pair(make: Callable[[Any], Callable[[], object]]) -> Timing:
        return time_pair(
            make(before),
            make(after),
            seconds=settings.seconds,
            min_repeats=settings.min_repeats,
            synchronise=waiter_for(device),
        )

    with (
        engine(before) as report,
        engine(after),
        evaluating(before, after),
        using_threads(settings.threads) as threads,
    ):
        per_batch = pair(lambda model: lambda: logits_of(model, ids))
        per_step = pair(lambda model: _next_token(model, ids[:1], settings.step_batch_size))
    paths = ", ".join(f"{item.op} {item.backend}" for item in report.paths)
    return Speed(
        path=f"{paths}; {path_text(device, dtype, threads)}",
        threads=threads,
        batch_size=len(windows),
        length=ids.shape[1],
        step_batch_size=settings.step_batch_size,
        per_batch=per_batch,
        state_space_per_batch=None,
        per_step=per_step,
        why_null={"state_space_per_batch": "timed alone by `make bench-scan`"},
    )


def measure_language_memory(before: nn.Module, after: nn.Module, windows: TokenWindows) -> Memory:
    """Measure what two language models hold: at the peak of a forward pass, and between tokens.

    Args:
        before: the first model.
        after: the second model.
        windows: of one forward pass.

    Returns:
        The measurement.
    """
    ids = windows.ids.to(device_of(before))
    peaks, states = [], []
    for model in (before, after):
        known: Any = model
        with engine(model), evaluating(model):
            peaks.append(peak_bytes(partial(logits_of, known, ids), ids.device))
            states.append(_state_bytes(known, ids[:1]))
    return Memory(
        how="bytes of all tensors alive at once during one forward pass, beyond parameters and "
        "inputs; scratch space inside one operation is not seen",
        batch_size=len(windows),
        length=ids.shape[1],
        peak_forward=(peaks[0], peaks[1]),
        state=(states[0], states[1]),
        why_null="",
        parameters=(parameter_bytes(before), parameter_bytes(after)),
    )


def _next_token(model: Any, row: Int64[Tensor, "1 l"], size: int) -> Callable[[], object]:
    """Return a run of one more token from a state that has seen a few."""
    ids = row.expand(size, -1)
    _, cache = forward(model, ids[:, :_PROMPT], None)
    token = ids[:, :1]
    return lambda: forward(model, token, cache)


def _state_bytes(model: Any, row: Int64[Tensor, "1 l"]) -> int:
    """Return what one more sequence costs between two tokens."""
    sizes = []
    for count in (1, 2):
        _, cache = forward(model, row.expand(count, -1)[:, :_PROMPT], None)
        sizes.append(sum(item.numel() * item.element_size() for item in _tensors(cache, set())))
    return sizes[1] - sizes[0]


def _tensors(thing: Any, seen: set[int]) -> list[Tensor]:
    """Return all tensors an object holds, at any depth, each once."""
    if id(thing) in seen:
        return []
    seen.add(id(thing))
    if isinstance(thing, torch.Tensor):
        return [thing]
    inner: Any = ()
    if isinstance(thing, dict):
        inner = thing.values()
    elif isinstance(thing, list | tuple):
        inner = thing
    elif hasattr(thing, "__dict__") and not isinstance(thing, type | nn.Module):
        inner = vars(thing).values()
    return [tensor for item in inner for tensor in _tensors(item, seen)]
