"""Every way to run a Hugging Face language model, compared."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor

from ssmith.core.seeds import generator
from ssmith.evaluate.path_checks import (
    BF16_STATE,
    PathCheck,
    PathParityConfig,
    compare_outputs,
    tolerance_for,
)
from ssmith.families.hf import selective_layers
from ssmith.families.hf.running import (
    logits_after_padding,
    logits_in_chunks,
    logits_of,
    running,
)
from ssmith.families.paths import scan_backends


def _tokens(model: Any, config: PathParityConfig) -> Int64[Tensor, "b l"]:
    parameter = next(model.parameters())
    shape = (config.batch, config.length + config.following)
    draw = generator(config.seed, "path parity")
    return torch.randint(1, model.config.vocab_size, shape, generator=draw).to(parameter.device)


def language_checks(model: Any, config: PathParityConfig) -> Iterator[PathCheck]:
    """Compare the logits of a Hugging Face language model, run every way there is.

    Whole against token by token, against chunks with a carried state, in a padded batch (left and
    right) against alone, with a state rounded to bfloat16, and on every path the scans have.

    Args:
        model: a transformers language model with selective layers; left as it was.
        config: what is run.

    Yields:
        One comparison after the other.
    """
    tokens = _tokens(model, config)
    ids = tokens[:, : config.length]
    tolerance = tolerance_for(next(model.parameters()).dtype, len(selective_layers(model)))
    kernel = int(getattr(model.config, "conv_kernel", 4))
    chunks = config.chunks or tuple(sorted({1, max(1, kernel - 1), 13, 17}))
    with running(model, backend=None, stock=config.stock):
        whole = logits_of(model, ids)
        for chunk in chunks:
            name = "token by token" if chunk == 1 else f"chunks of {chunk}"
            yield compare_outputs(
                f"whole against {name}", logits_in_chunks(model, ids, chunk), whole, tolerance
            )
        for left in (True, False):
            name = f"padded on the {'left' if left else 'right'} against alone"
            yield _padding(model, name, tokens, config, tolerance)
        rounded = logits_in_chunks(model, ids, 1, state=torch.bfloat16)
        yield compare_outputs(
            "state in float32 against bfloat16", rounded, whole, max(BF16_STATE, tolerance)
        )
    if config.stock:
        return
    with running(model, backend="reference"):
        judge = logits_of(model, ids)
    for backend in scan_backends(model)[1:]:
        with running(model, backend=backend):
            yield compare_outputs(
                f"{backend} against reference", logits_of(model, ids), judge, tolerance
            )


def _padding(
    model: Any, name: str, tokens: Int64[Tensor, "b l"], config: PathParityConfig, tolerance: float
) -> PathCheck:
    """Compare rows of unequal lengths in one padded batch with the same rows alone."""
    lengths = [max(2, config.length * (row + 1) // len(tokens)) for row in range(len(tokens))]
    following = tokens[:, config.length :]
    rows = [row[:length] for row, length in zip(tokens, lengths, strict=True)]
    together = logits_after_padding(model, rows, following, left="left" in name)
    alone = [
        logits_of(model, torch.cat([row, after])[None])[0]
        for row, after in zip(rows, following, strict=True)
    ]
    return compare_outputs(name, torch.cat(together), torch.cat(alone), tolerance)
