"""The tokens a language model chooses must not depend on how its prompt was given."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor

from ssmith.evaluation.path_checks import PathCheck, PathParityConfig
from ssmith.families.hf.running import (
    greedy,
    greedy_after_chunks,
    greedy_after_padding,
    logits_of,
    padded,
)

PROMPT_CHUNK = 7
WAYS = (
    "in a batch padded on the left",
    "in a batch padded on the right",
    f"from prompts in chunks of {PROMPT_CHUNK}",
)


def token_checks(
    model: Any, tokens: Int64[Tensor, "b l"], config: PathParityConfig, tolerance: float
) -> Iterator[PathCheck]:
    """Compare greedy tokens: of prompts in a padded batch, and of a prompt in chunks.

    Where two ways choose different tokens, the difference is how far apart the logits of the two
    tokens are at that place, in units of the largest: a tie within rounding is no fault.

    Args:
        model: a transformers language model, running on the path to check.
        tokens: prompts.
        config: what is run.
        tolerance: largest difference that passes.

    Yields:
        One comparison after the other; 0 where all tokens are the same.
    """
    rows = [row[: max(2, len(row) * (at + 1) // len(tokens))] for at, row in enumerate(tokens)]
    steps = config.following
    alone = [greedy(model, row[None], steps)[0] for row in rows]
    ids, mask = padded(rows, left=True)
    chunks = [greedy_after_chunks(model, row[None], PROMPT_CHUNK, steps) for row in rows]
    ways = (
        greedy(model, ids, steps, mask=mask),
        greedy_after_padding(model, rows, steps),
        torch.cat(chunks),
    )
    for way, found in zip(WAYS, ways, strict=True):
        apart = [
            _apart(model, row, got, wanted)
            for row, got, wanted in zip(rows, found, alone, strict=True)
        ]
        name = f"{steps} greedy tokens {way} against alone"
        yield PathCheck(name=name, difference=max(apart), tolerance=tolerance)


def _apart(
    model: Any, prompt: Int64[Tensor, "_"], got: Int64[Tensor, "s"], wanted: Int64[Tensor, "s"]
) -> float:
    """Return how clearly the first token that differs was the wrong one; 0 if none differs."""
    differing = (got != wanted).nonzero()
    if not len(differing):
        return 0.0
    first = int(differing[0])
    logits = logits_of(model, torch.cat([prompt, wanted[:first]])[None])[0, -1].double()
    scale = float(logits.abs().max().clamp_min(1.0))
    # Two ways never agree exactly on a tie that fell differently.
    smallest = torch.finfo(torch.float64).tiny
    return max(float((logits[wanted[first]] - logits[got[first]]).abs()) / scale, smallest)
