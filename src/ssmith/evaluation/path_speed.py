"""How fast each path runs here: on few tokens, so that every run says it and none waits for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor

from ssmith.evaluation.path_checks import PathSpeed
from ssmith.families.hf.running import forward, logits_of, running
from ssmith.families.paths import scan_backends

_TIMED = 2
_STEPS = 8


def language_speeds(model: Any, ids: Int64[Tensor, "b l"], *, stock: bool) -> Iterator[PathSpeed]:
    """Time a language model on each path: reading tokens, and taking one after the other.

    Args:
        model: a transformers language model.
        ids: what it reads; single tokens follow the first row.
        stock: time the model's own code, and nothing else.

    Yields:
        One speed after the other.
    """
    for backend in (None,) if stock else scan_backends(model):
        name = "stock" if backend is None else backend
        with running(model, backend=backend, stock=stock):
            seconds = timed(lambda: logits_of(model, ids), ids)
            yield PathSpeed(work="reading", backend=name, tokens=ids.numel(), seconds=seconds)
            carried = forward(model, ids[:1], None)[1]
            seconds = timed(partial(_step, model, ids[:1, :1], carried), ids)
            yield PathSpeed(work="token by token", backend=name, tokens=_STEPS, seconds=seconds)


def timed(run: Callable[[], object], like: Tensor) -> float:
    """Return the seconds of the faster of two runs, after one that warms up.

    Args:
        run: what to time.
        like: a tensor on the device it runs on.

    Returns:
        Seconds > 0.
    """
    run()
    return min(_seconds(run, like) for _ in range(_TIMED))


def _step(model: Any, token: Int64[Tensor, "1 1"], carried: Any) -> None:
    for _ in range(_STEPS):
        _, carried = forward(model, token, carried)


def _seconds(run: Callable[[], object], like: Tensor) -> float:
    start = time.perf_counter()
    run()
    if like.is_cuda:
        torch.cuda.synchronize(like.device)
    return time.perf_counter() - start
