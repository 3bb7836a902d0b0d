"""Running a language model in pieces, with padding, and on a chosen path."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from ssmith.families.hf.engine import engine
from ssmith.ops.backends import Backend, use_backend


@contextmanager
def running(model: nn.Module, *, backend: Backend | None, stock: bool = False) -> Iterator[None]:
    """Evaluate a model inside the block: in eval mode, without gradients, on one path.

    Args:
        model: a transformers language model.
        backend: path to force; None for the one that is chosen by itself.
        stock: leave the engine out and run the model's own code.
    """
    training = model.training
    forced = nullcontext() if backend is None else use_backend(backend)
    swapped = nullcontext() if stock else engine(model)
    try:
        with torch.no_grad(), forced, swapped:
            model.eval()
            yield
    finally:
        model.train(training)


def logits_of(
    model: Any, ids: Int64[Tensor, "b l"], mask: Int64[Tensor, "b l"] | None = None
) -> Float[Tensor, "b l v"]:
    """Return the logits of one forward pass without a cache."""
    out: Tensor = model(ids, attention_mask=mask, use_cache=False).logits
    return out


def logits_in_chunks(
    model: Any, ids: Int64[Tensor, "b l"], chunk: int, *, state: torch.dtype | None = None
) -> Float[Tensor, "b l v"]:
    """Return the logits of the same tokens given in chunks, the state carried in a cache.

    Args:
        model: a transformers language model.
        ids: tokens.
        chunk: tokens per call, ≥ 1.
        state: dtype the recurrent state is rounded to between calls; None to leave it.

    Returns:
        Logits of all tokens.
    """
    pieces, carried = [], None
    for part in ids.split(chunk, dim=1):
        out = model(part, cache_params=carried, use_cache=True)
        carried = out.cache_params
        pieces.append(out.logits)
        if state is not None:
            for layer in carried.layers:
                for number, value in layer.recurrent_states.items():
                    layer.recurrent_states[number] = value.to(state).to(value.dtype)
    return torch.cat(pieces, dim=1)


def logits_after_padding(
    model: Any,
    rows: list[Int64[Tensor, "_"]],
    following: Int64[Tensor, "b f"],
    *,
    left: bool,
) -> list[Float[Tensor, "_ v"]]:
    """Return each row's logits when the rows share one padded batch, and are then continued.

    Args:
        model: a transformers language model.
        rows: prompts of any lengths.
        following: tokens that follow each prompt, given one at a time.
        left: pad on the left; else on the right.

    Returns:
        Per row, the logits of its prompt and of what follows.
    """
    longest = max(len(row) for row in rows)
    ids = rows[0].new_zeros(len(rows), longest)
    mask = torch.zeros_like(ids)
    for number, row in enumerate(rows):
        place = slice(longest - len(row), None) if left else slice(len(row))
        ids[number, place], mask[number, place] = row, 1
    out = model(ids, attention_mask=mask, use_cache=True)
    later, carried = [], out.cache_params
    for step in following.split(1, dim=1):
        stepped = model(step, cache_params=carried, use_cache=True)
        carried = stepped.cache_params
        later.append(stepped.logits)
    continued = torch.cat(later, dim=1)
    return [
        torch.cat([out.logits[number][mask[number].bool()], continued[number]])
        for number in range(len(rows))
    ]
