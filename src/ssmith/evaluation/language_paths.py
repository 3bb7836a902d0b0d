"""Every way to run a Hugging Face language model, compared."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor

from ssmith.core.seeds import generator
from ssmith.evaluation.language_tokens import WAYS, token_checks
from ssmith.evaluation.path_checks import (
    BF16_STATE,
    DOUBLE,
    ROUNDINGS,
    SINGLE,
    NotCompared,
    PathCheck,
    PathParityConfig,
    compare_outputs,
    tolerance_for,
)
from ssmith.families.hf.double import in_double
from ssmith.families.hf.running import (
    conv_taps,
    first_states,
    logits_after_padding,
    logits_in_chunks,
    logits_of,
    running,
    scan_chunk,
)
from ssmith.families.paths import scan_backends
from ssmith.families.registry import mixers

CHUNK = 64
"""Tried where a model's own code has no chunk length: what Mamba-2's scan here works in."""

_Pair = tuple[str, Tensor, Tensor]


@dataclass(frozen=True, kw_only=True)
class Rounding:
    """What rounding alone does to a model's logits, in units of the largest one.

    Args:
        difference: the reference in the model's own dtype against float64.
        state: float64 with a state rounded to bfloat16 after every token, against without.
    """

    difference: float
    state: float


def language_checks(
    model: Any, config: PathParityConfig
) -> Iterator[PathCheck | NotCompared | Rounding]:
    """Compare the logits of a Hugging Face language model, run every way there is.

    Whole against token by token, against chunks with a carried state, in a padded batch (left and
    right) against alone, and with a given first state: in a copy in float64 throughout, where
    formulas must agree, and in the model's own dtype, where ways may differ by a few times what
    rounding alone does. In its own dtype also with a state rounded to bfloat16, which may cost a
    few times what it costs in float64, on every path the scans have, and by the tokens that are
    generated.

    Args:
        model: a transformers language model with selective layers; left as it was.
        config: what is run.

    Yields:
        One comparison after the other.
    """
    tokens = tokens_for(model, config)
    ids = tokens[:, : -config.following]
    with running(model, backend="reference"):
        judge = logits_of(model, ids)
    dtype = next(model.parameters()).dtype
    tolerance = tolerance_for(dtype, len(mixers(model)[0]))
    narrow = BF16_STATE
    for item in _in_double(model, tokens, config, judge):
        if isinstance(item, Rounding):
            tolerance = max(SINGLE, ROUNDINGS * item.difference)
            narrow = ROUNDINGS * item.state
        yield item
    with running(model, backend=None, stock=config.stock):
        for name, got, wanted in _formulas(model, tokens, config):
            yield compare_outputs(f"{name} ({_said(dtype)})", got, wanted, tolerance)
        rounded = logits_in_chunks(model, ids, 1, state=torch.bfloat16)
        yield compare_outputs(
            "state in float32 against bfloat16", rounded, logits_of(model, ids),
            max(narrow, tolerance),
        )  # fmt: skip
        yield from token_checks(model, tokens, config, tolerance)
    if config.stock:
        yield NotCompared(name="a given first state", reason="stock code has no place for one")
    else:
        yield from _backends(model, ids, judge, tolerance)


def count_checks(model: Any, config: PathParityConfig) -> int:
    """Return about how many comparisons `language_checks` will make."""
    length = tokens_for(model, config).shape[1] - config.following
    formulas = sum(chunk < length for chunk in chunk_lengths(model, config)) + 3
    rest = 1 + len(WAYS)
    if config.stock:
        return formulas + rest
    return 2 * formulas + rest + 2 * (len(scan_backends(model)) - 1)


def tokens_for(model: Any, config: PathParityConfig) -> Int64[Tensor, "b l"]:
    """Draw the tokens of each sequence and, behind them, those that follow it.

    Args:
        model: a language model.
        config: lengths and seed.

    Returns:
        Token ids, none of them 0.
    """
    length = config.length_for(chunk_lengths(model, config))
    draw = generator(config.seed, "path parity")
    shape = (config.batch, length + config.following)
    drawn = torch.randint(1, model.config.vocab_size, shape, generator=draw)
    return drawn.to(next(model.parameters()).device)


def chunk_lengths(model: Any, config: PathParityConfig) -> tuple[int, ...]:
    """Return the chunks to try: those that were asked for, or where a model could stumble.

    Args:
        model: a language model.
        config: its ``chunks``.

    Returns:
        Tokens per call, each ≥ 1.
    """
    chunk = scan_chunk(model) or CHUNK
    default = {1, max(1, conv_taps(model) - 1), 3, 13, chunk, chunk + 1}
    return config.chunks or tuple(sorted(default))


def _formulas(model: Any, tokens: Tensor, config: PathParityConfig) -> Iterator[_Pair]:
    """Yield what must agree to rounding, whatever the dtype."""
    ids = tokens[:, : -config.following]
    whole = logits_of(model, ids)
    for chunk in chunk_lengths(model, config):
        if chunk < ids.shape[1]:
            name = "token by token" if chunk == 1 else f"chunks of {chunk}"
            yield f"whole against {name}", logits_in_chunks(model, ids, chunk), whole
    for left in (True, False):
        yield _padding(model, tokens, config, left=left)
    if config.stock:
        return
    with first_states(model, config.seed) as given:
        if given:
            started = logits_of(model, ids)
            # A prefill that drops its first state agrees with itself, and with no first state.
            heard = started if bool((started != whole).any()) else started + torch.inf
            name = "a given first state: whole against token by token"
            yield name, logits_in_chunks(model, ids, 1), heard


def _padding(model: Any, tokens: Tensor, config: PathParityConfig, *, left: bool) -> _Pair:
    """Compare rows of unequal lengths in one padded batch with the same rows alone."""
    length = tokens.shape[1] - config.following
    lengths = [max(2, length * (row + 1) // len(tokens)) for row in range(len(tokens))]
    following = tokens[:, length:]
    rows = [row[:steps] for row, steps in zip(tokens, lengths, strict=True)]
    together = logits_after_padding(model, rows, following, left=left)
    alone = [
        logits_of(model, torch.cat([row, after])[None])[0]
        for row, after in zip(rows, following, strict=True)
    ]
    name = f"padded on the {'left' if left else 'right'} against alone"
    return name, torch.cat(together), torch.cat(alone)


def _in_double(
    model: Any, tokens: Tensor, config: PathParityConfig, judge: Tensor
) -> Iterator[PathCheck | NotCompared | Rounding]:
    """Compare formulas alone: a float64 copy leaves no rounding to hide a difference behind."""
    parameters = sum(parameter.numel() for parameter in model.parameters())
    if parameters > config.double_up_to:
        reason = f"{parameters:,} parameters; allow more with double_up_to (--double-up-to)"
        yield NotCompared(name="all of it in float64", reason=reason)
        return
    with in_double(model) as twin, running(twin, backend=None):
        ids = tokens[:, : -config.following]
        truth = logits_of(twin, ids)
        found = compare_outputs("", judge, truth, SINGLE)
        rounded = logits_in_chunks(twin, ids, 1, state=torch.bfloat16)
        state = compare_outputs("", rounded, truth, SINGLE)
        if math.isfinite(found.difference) and math.isfinite(state.difference):
            yield Rounding(difference=found.difference, state=state.difference)
        if config.stock:
            return
        for name, got, wanted in _formulas(twin, tokens, config):
            yield compare_outputs(f"{name} (float64 throughout)", got, wanted, DOUBLE)


def _backends(model: Any, ids: Tensor, judge: Tensor, tolerance: float) -> Iterator[PathCheck]:
    for backend in scan_backends(model)[1:]:
        with running(model, backend=backend):
            ways = {"": logits_of(model, ids), ", token by token": logits_in_chunks(model, ids, 1)}
        for way, got in ways.items():
            yield compare_outputs(f"{backend} against reference{way}", got, judge, tolerance)


def _said(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
