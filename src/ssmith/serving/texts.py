"""What a language model says to texts: how surprising each is, or what it writes next."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ssmith.core.checks import check_integer
from ssmith.core.progress import Progress, silent
from ssmith.core.tokenizer import Tokenizer, begun
from ssmith.data import read_source
from ssmith.evaluation.answers import score_continuations
from ssmith.evaluation.generation import GenerationConfig, generate

_PART = 64


def answer_texts(
    model: nn.Module,
    tokenizer: Tokenizer,
    source: str | Path,
    *,
    field: str = "text",
    most: int | None = None,
    batch_size: int = 8,
    progress: Progress = silent,
) -> dict[str, list[Any]]:
    """Return a column of names of texts, and for each its perplexity, or what is written after it.

    Every text is read as a whole, as a recurrence needs no windows. Of its first token there is no
    likelihood but where the tokenizer begins a text with one of its own.
    """
    items = read_source(source, field=field, tokenizer=tokenizer).items
    if most is not None:
        check_integer("generate", most, at_least=1)
    found: dict[str, list[Any]] = {"row": [item.name for item in items]}
    for start in range(0, len(items), _PART):
        part = [item.content.decode() for item in items[start : start + _PART]]
        said = (
            _surprise(model, tokenizer, part, batch_size)
            if most is None
            else _written(model, tokenizer, part, most, batch_size)
        )
        for name, values in said.items():
            found.setdefault(name, []).extend(values)
        progress("predict", min(start + _PART, len(items)), len(items))
    return found


def _surprise(
    model: nn.Module, tokenizer: Tokenizer, texts: list[str], batch_size: int
) -> dict[str, list[Any]]:
    rows, tokens = [], []
    for text in texts:
        ids = begun(tokenizer, tokenizer.encode(text))
        rows.append((ids[:1] or [tokenizer.end or 0], ids[1:]))
        tokens.append(len(rows[-1][1]))
    nats = [-value for value, _ in score_continuations(model, rows, batch_size=batch_size)]
    pairs = list(zip(nats, tokens, strict=True))
    return {
        "tokens": tokens,
        "perplexity": [math.exp(nat / count) if count else None for nat, count in pairs],
        "nats": nats,
    }


def _written(
    model: nn.Module, tokenizer: Tokenizer, texts: list[str], most: int, batch_size: int
) -> dict[str, list[Any]]:
    prompts = [
        torch.tensor(begun(tokenizer, tokenizer.encode(text)) or [tokenizer.end or 0])
        for text in texts
    ]
    config = GenerationConfig(most=most, batch_size=batch_size)
    written, ended = generate(model, prompts, tokenizer, config)
    return {"answer": list(written), "ended": list(ended)}
