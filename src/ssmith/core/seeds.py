"""One place for randomness: named generators derived from one seed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Int64
from torch import Tensor

from ssmith.core.errors import InputError


def derive(seed: int, *purpose: str | int) -> int:
    """Derive a 63-bit seed for one purpose.

    Two purposes never share a stream, so adding a random draw in one place
    does not change the numbers in another.

    The result is in [0, 2⁶³).
    """
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise InputError(f"seed is {seed!r}", allowed="an integer ≥ 0")
    text = "\x1f".join([str(seed), *map(str, purpose)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *purpose: str | int) -> torch.Generator:
    """Return a CPU generator for one purpose (see `derive`)."""
    return torch.Generator().manual_seed(derive(seed, *purpose))


def permutation(count: int, seed: int, *purpose: str | int) -> Int64[Tensor, "i"]:
    """Return the numbers 0 … ``count`` − 1 in a random order for one purpose (see `derive`)."""
    return torch.randperm(count, generator=generator(seed, *purpose))


@contextmanager
def seeded(seed: int, *purpose: str | int) -> Iterator[None]:
    """Seed torch's global generators inside the block and restore them after it.

    For code that draws from the global stream (initialisers, dropout).
    """
    with torch.random.fork_rng():
        torch.manual_seed(derive(seed, *purpose))
        yield
