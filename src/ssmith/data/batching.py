"""Batches: shuffled by a generator that is passed in, trimmed to their longest sequence."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from ssmith.core.errors import DataError, InputError
from ssmith.core.sequences import Sequences


def batches(
    part: Sequences, *, size: int, generator: torch.Generator | None = None
) -> Iterator[Sequences]:
    """Cut one split into batches; the last one may be smaller."""
    if not isinstance(size, int) or isinstance(size, bool) or size < 1:
        raise InputError(f"batch size is {size!r}", allowed="an integer ≥ 1")
    if not len(part):
        raise DataError("there is no sequence to batch", next_step="check the split")
    return _cut(part, size, generator)


def _cut(part: Sequences, size: int, generator: torch.Generator | None) -> Iterator[Sequences]:
    count = len(part)
    if generator is None:
        order = torch.arange(count)
    else:
        order = torch.randperm(count, generator=generator, device=generator.device)
    for start in range(0, count, size):
        yield part.take(order[start : start + size].to(part.x.device))
