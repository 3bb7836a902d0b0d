"""Largest differences between ways to the same logits of a language model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from jaxtyping import Int64
from torch import Tensor, nn

from ssmith.core.errors import UnsupportedError
from ssmith.core.optional import require
from ssmith.core.trees import place_of
from ssmith.evaluation.parity import max_difference
from ssmith.families.hf.double import in_double
from ssmith.families.hf.running import logits_in_chunks, logits_of, running
from ssmith.families.parts.hooks import ENGINE_ONLY


def logits_difference(first: nn.Module, second: nn.Module, ids: Int64[Tensor, "b l"]) -> float:
    """Return the largest difference of two models' logits, in their own dtype on the engine."""
    found = []
    for model in (first, second):
        with running(model, backend=None):
            found.append(logits_of(model, ids.to(place_of(model))).cpu())
    return max_difference(*found)


def stepping_difference(model: nn.Module, ids: Int64[Tensor, "b l"]) -> float:
    """Return the largest difference between token by token and at once, in float64."""
    given = ids.to(place_of(model))
    with in_double(model) as twin, running(twin, backend=None):
        return max_difference(logits_in_chunks(twin, given, 1), logits_of(twin, given))


def stock_difference(model: nn.Module, ids: Int64[Tensor, "b l"]) -> float:
    """Return the largest difference between the engine and transformers' own code.

    A model in half precision is compared in float64: its own rounding, which two orders of the same
    sums do not share, moves its logits by a per cent.

    In units of the largest logit. A model that holds offsets or projected states is refused:
    transformers' own code leaves them out.
    """
    own = ENGINE_ONLY & {name.rpartition(".")[2] for name, _ in model.named_buffers()}
    if own:
        raise UnsupportedError(
            f"the model holds {min(own)}: transformers' own code knows neither offsets nor "
            "projected states",
            next_step="run it with ssmith",
        )
    given = ids.to(place_of(model))
    found: list[Tensor] = []
    half = any(item.dtype in (torch.bfloat16, torch.float16) for item in model.parameters())
    with _silent(), in_double(model) if half else nullcontext(model) as judged:
        for stock in (False, True):
            with running(judged, backend=None, stock=stock):
                found.append(logits_of(judged, given).to(torch.float64).cpu())
    return max_difference(*found) / max(1.0, float(found[1].abs().max()))


@contextmanager
def _silent() -> Iterator[None]:
    """Keep transformers from advising faster code: its own is run to be compared with."""
    settings = require(
        "transformers.utils.logging", extra="hf", purpose="comparing with transformers"
    )
    level = settings.get_verbosity()
    settings.set_verbosity_error()
    try:
        yield
    finally:
        settings.set_verbosity(level)
