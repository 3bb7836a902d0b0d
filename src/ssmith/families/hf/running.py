"""Running a language model in pieces, with padding, and on a chosen path."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from ssmith.core.running import evaluating
from ssmith.core.seeds import generator
from ssmith.families.hf.engine import engine
from ssmith.families.hf.facts import state_shape
from ssmith.families.parts.hooks import SLOT
from ssmith.families.registry import mixers
from ssmith.ops.backends import Backend, use_backend

_HYBRID_CACHE, _CACHE = "past_key_values", "cache_params"


@contextmanager
def running(model: nn.Module, *, backend: Backend | None, stock: bool = False) -> Iterator[None]:
    """Evaluate a model inside the block: in eval mode, without gradients, on one path.

    ``backend`` is forced, None for the one that is chosen by itself; ``stock`` leaves the engine
    out.
    """
    forced = nullcontext() if backend is None else use_backend(backend)
    swapped = nullcontext() if stock else engine(model)
    with forced, swapped, evaluating(model):
        yield


@contextmanager
def first_states(model: nn.Module, seed: int) -> Iterator[bool]:
    """Give every mixer a random state before the first step, inside the block.

    Yields False where it was not done: a model that carries adapters has states of its own.
    """
    found = mixers(model)[0]
    if any(SLOT in mixer._modules or hasattr(mixer, "initial_state") for mixer in found.values()):
        yield False
        return
    for name, mixer in found.items():
        draw = generator(seed, "first state", name)
        state = torch.randn(state_shape(mixer), generator=draw, dtype=torch.float64)
        mixer.initial_state = state.to(mixer.A_log)
    try:
        yield True
    finally:
        for mixer in found.values():
            del mixer.initial_state


def conv_taps(model: nn.Module) -> int:
    """Return the length of the longest convolution before a model's scans."""
    return max(int(mixer.conv1d.kernel_size[0]) for mixer in mixers(model)[0].values())


def scan_chunk(model: nn.Module) -> int | None:
    """Return the steps a model's own code scans at once; None where it has no such setting."""
    chunks = [getattr(mixer, "chunk_size", None) for mixer in mixers(model)[0].values()]
    return max((int(chunk) for chunk in chunks if chunk is not None), default=None)


def is_hybrid(model: Any) -> bool:
    """Return whether a language model's cache holds what attention needs, too."""
    return _HYBRID_CACHE in inspect.signature(model.forward).parameters


def forward(
    model: Any, ids: Int64[Tensor, "b l"], carried: Any, mask: Int64[Tensor, "b t"] | None = None
) -> tuple[Float[Tensor, "b l v"], Any]:
    """Return the logits of some tokens that continue from a cache, and the cache after them.

    ``mask`` is over all tokens so far, 0 where one is padding.
    """
    name = _HYBRID_CACHE if is_hybrid(model) else _CACHE
    out = model(ids, attention_mask=mask, use_cache=True, **{name: carried})
    return out.logits, out[name]


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

    ``state`` is the dtype the recurrent state is rounded to between calls; None to leave it.
    """
    pieces, carried = [], None
    for part in ids.split(chunk, dim=1):
        logits, carried = forward(model, part, carried)
        pieces.append(logits)
        if state is not None:
            _round_states_(carried, state)
    return torch.cat(pieces, dim=1)


def _round_states_(carried: Any, state: torch.dtype) -> None:
    for layer in carried.layers:
        held = getattr(layer, "recurrent_states", None) or {}
        for number, value in held.items():
            if value is not None:
                held[number] = value.to(state).to(value.dtype)


def padded(
    rows: list[Int64[Tensor, "_"]], *, left: bool
) -> tuple[Int64[Tensor, "b l"], Int64[Tensor, "b l"]]:
    """Return rows of any lengths as one batch padded with 0, and its mask: 1 where valid."""
    longest = max(len(row) for row in rows)
    ids = rows[0].new_zeros(len(rows), longest)
    mask = torch.zeros_like(ids)
    for number, row in enumerate(rows):
        place = slice(longest - len(row), None) if left else slice(len(row))
        ids[number, place], mask[number, place] = row, 1
    return ids, mask


def logits_after_padding(
    model: Any,
    rows: list[Int64[Tensor, "_"]],
    following: Int64[Tensor, "b f"],
    *,
    left: bool,
) -> list[Float[Tensor, "_ v"]]:
    """Return each row's logits when the rows share one padded batch, and are then continued.

    ``following`` are given one at a time.
    """
    ids, mask = padded(rows, left=left)
    prompts, carried = forward(model, ids, None, mask)
    later, whole = [], mask
    for step in following.split(1, dim=1):
        whole = torch.cat([whole, torch.ones_like(step)], dim=1)
        # Attention must be told about the padding it has cached; a recurrent state holds none.
        logits, carried = forward(model, step, carried, whole if is_hybrid(model) else None)
        later.append(logits)
    continued = torch.cat(later, dim=1)
    return [
        torch.cat([prompts[number][mask[number].bool()], continued[number]])
        for number in range(len(rows))
    ]


def greedy(
    model: Any,
    ids: Int64[Tensor, "b l"],
    steps: int,
    *,
    mask: Int64[Tensor, "b l"] | None = None,
) -> Int64[Tensor, "b s"]:
    """Return the likeliest tokens after prompts, by transformers' ``generate``."""
    whole: Tensor = model.generate(
        ids,
        attention_mask=torch.ones_like(ids) if mask is None else mask,
        max_new_tokens=steps,
        min_new_tokens=steps,
        do_sample=False,
        num_beams=1,
        pad_token_id=0,
    )
    return whole[:, ids.shape[1] :]


def greedy_after_padding(
    model: Any, rows: list[Int64[Tensor, "_"]], steps: int
) -> Int64[Tensor, "b s"]:
    """Return the likeliest tokens after rows that share one batch, padded on the right."""
    ids, mask = padded(rows, left=False)
    logits, carried = forward(model, ids, None, mask)
    last = logits[torch.arange(len(rows)), mask.sum(1) - 1]
    return _greedy_from(model, last, carried, mask, steps)


def greedy_after_chunks(
    model: Any, ids: Int64[Tensor, "b l"], chunk: int, steps: int
) -> Int64[Tensor, "b s"]:
    """Return the likeliest tokens after prompts that are read in chunks."""
    carried = None
    for part in ids.split(chunk, dim=1):
        logits, carried = forward(model, part, carried)
    return _greedy_from(model, logits[:, -1], carried, torch.ones_like(ids), steps)


def _greedy_from(
    model: Any, logits: Float[Tensor, "b v"], carried: Any, mask: Tensor, steps: int
) -> Int64[Tensor, "b s"]:
    chosen = [logits.argmax(-1)]
    while len(chosen) < steps:
        step = chosen[-1][:, None]
        mask = torch.cat([mask, torch.ones_like(step)], dim=1)
        logits, carried = forward(model, step, carried, mask if is_hybrid(model) else None)
        chosen.append(logits[:, -1].argmax(-1))
    return torch.stack(chosen, dim=1)
