"""Perplexity of a language model on windows of text, window by window."""

from __future__ import annotations

import math
from typing import TypeVar

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor, nn

from ssmith.core.errors import DataError
from ssmith.core.tokens import TokenWindows
from ssmith.core.trees import place_of
from ssmith.evaluation.metrics import PERPLEXITY, Outcomes
from ssmith.evaluation.task import Task, outcomes_of
from ssmith.families.hf import engine
from ssmith.families.hf.head import read_out

# Positions whose scores over the whole vocabulary stand in memory at once, times vocabulary.
_SCORES_AT_ONCE = 1 << 24
Nats = TypeVar("Nats", float, Tensor)


def language_outcomes(model: nn.Module, part: TokenWindows) -> Outcomes:
    """Return nats and counted tokens of each window, and the same in bits over bytes.

    Where the model's head is known, scores over the vocabulary are made for a few positions at a
    time, so that memory does not grow with length × vocabulary.

    Bits over bytes are there where the text's bytes are known.
    """
    check_vocabulary(model, part)
    nats = _batch_losses(model, part, place_of(model))
    tokens = (part.lengths - part.scored_from).clamp(min=0).double()
    also = {}
    if part.text_bytes is not None:
        also = {"bits per byte": Outcomes(numerator=bits(nats), weight=part.text_bytes.double())}
    return Outcomes(numerator=nats, weight=tokens, also=also)


PERPLEXITY_TASK = Task(metric=PERPLEXITY, outcomes=language_outcomes, around=engine)


def window_losses(
    model: nn.Module, windows: TokenWindows, *, batch_size: int = 8
) -> Float64[Tensor, "w"]:
    """Return the summed negative log-likelihood of each window's counted tokens, in nats."""
    return outcomes_of(PERPLEXITY_TASK, model, windows, batch_size=batch_size).numerator


def check_vocabulary(model: nn.Module, windows: TokenWindows) -> None:
    """Refuse token ids a model does not know."""
    embedding = getattr(model, "get_input_embeddings", lambda: None)()
    known = embedding.num_embeddings if isinstance(embedding, nn.Embedding) else None
    largest = int(windows.ids.max())
    if known is not None and largest >= known:
        raise DataError(
            f"{windows.name} has token id {largest}",
            allowed=f"ids below {known}, the model's vocabulary",
            next_step="use the tokenizer that belongs to the model",
        )


def _batch_losses(
    model: nn.Module, part: TokenWindows, device: torch.device
) -> Float64[Tensor, "w"]:
    ids = part.ids.to(device)
    positions = torch.arange(ids.shape[1], device=device)
    lengths, starts = part.lengths.to(device), part.scored_from.to(device)
    valid = positions < lengths[:, None]
    counted = valid & (positions >= starts[:, None])
    hidden, head = read_out(model, ids, None if bool(valid.all()) else valid)
    losses = torch.zeros(ids.shape, dtype=torch.float64, device=device)
    wanted = counted[:, 1:]
    before, targets = hidden[:, :-1][wanted], ids[:, 1:][wanted]
    found = [
        _nats(head(few), goal)
        for few, goal in zip(*(item.split(_rows(part)) for item in (before, targets)), strict=True)
    ]
    if found:
        losses[:, 1:][wanted] = torch.cat(found)
    return losses.sum(dim=1).cpu()


def _rows(part: TokenWindows) -> int:
    return max(1, _SCORES_AT_ONCE // part.vocabulary)


def _nats(logits: Float[Tensor, "i v"], targets: Int64[Tensor, "i"]) -> Float64[Tensor, "i"]:
    wide = logits if logits.dtype == torch.float64 else logits.float()
    return nn.functional.cross_entropy(wide, targets, reduction="none").double()


def bits(nats: Nats) -> Nats:
    """Return nats in bits."""
    return nats / math.log(2.0)
