"""Parity of paths: a language model gives the same numbers whichever way it is run."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from ssmith.core.errors import InputError
from ssmith.core.files import finite_or_none
from ssmith.core.seeds import generator
from ssmith.families.hf.engine import engine
from ssmith.families.hf.running import (
    logits_after_padding,
    logits_in_chunks,
    logits_of,
    running,
    scan_backends,
)

TOLERANCES = {torch.float64: 2e-6, torch.float32: 2e-5, torch.bfloat16: 5e-2, torch.float16: 1e-2}
"""Largest difference that counts as equal, in units of the largest logit.

transformers computes norms and logits in float32 even in a float64 model.
"""

BF16_STATE = 5e-2
"""The same for a state that is rounded to bfloat16 after every token."""


@dataclass(frozen=True, kw_only=True)
class PathParityConfig:
    """What is run.

    Args:
        length: tokens of each sequence, ≥ 16.
        batch: sequences, ≥ 2.
        chunks: chunk lengths to try, each ≥ 1; None for 1, k − 1, 13 and 17.
        following: tokens that follow a padded prompt, ≥ 1.
        stock: run the model's own code instead of the engine, to compare.
        seed: of the random tokens.

    Raises:
        InputError: if a value is outside its domain.
    """

    length: int = 40
    batch: int = 2
    chunks: tuple[int, ...] | None = None
    following: int = 4
    stock: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.length < 16 or self.batch < 2 or self.following < 1:
            raise InputError(
                f"length {self.length}, batch {self.batch}, following {self.following}",
                allowed="length ≥ 16, batch ≥ 2, following ≥ 1",
            )
        if self.chunks is not None and (not self.chunks or min(self.chunks) < 1):
            raise InputError(f"chunks is {self.chunks!r}", allowed="at least one length ≥ 1")


@dataclass(frozen=True, kw_only=True)
class PathCheck:
    """One comparison.

    Args:
        name: the two ways that were compared.
        difference: largest difference of logits over the largest logit; infinite if not finite.
        tolerance: largest difference that passes.
    """

    name: str
    difference: float
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether the two ways agree."""
        return self.difference <= self.tolerance


@dataclass(frozen=True, kw_only=True)
class PathParity:
    """What was compared, and on which paths.

    Args:
        model: class of the model.
        stock: whether the model's own code was run.
        paths: per operation of the engine: the path, and why; empty for stock.
        checks: all comparisons.
    """

    model: str
    stock: bool
    paths: tuple[dict[str, str], ...]
    checks: tuple[PathCheck, ...]

    @property
    def passed(self) -> bool:
        """Whether all ways agree."""
        return all(check.passed for check in self.checks)

    @property
    def worst(self) -> PathCheck:
        """The comparison that used most of its tolerance."""
        return max(self.checks, key=lambda check: check.difference / check.tolerance)

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dict."""
        checks = [
            {
                "name": check.name,
                "difference": finite_or_none(check.difference),
                "tolerance": check.tolerance,
                "passed": check.passed,
            }
            for check in self.checks
        ]
        return {
            "model": self.model, "stock": self.stock, "paths": list(self.paths),
            "checks": checks, "passed": self.passed,
        }  # fmt: skip


def path_parity(model: nn.Module, config: PathParityConfig | None = None) -> PathParity:
    """Run a Hugging Face language model every way there is, and compare the logits.

    Whole against token by token, against chunks with a carried state, in a padded batch (left and
    right) against alone, with a state rounded to bfloat16, and on every path the scans have.

    Args:
        model: a transformers language model with selective layers; left as it was.
        config: what is run.

    Returns:
        Every comparison with its tolerance.

    Raises:
        UnsupportedError: if the engine knows none of the model's layers.
    """
    config = PathParityConfig() if config is None else config
    with engine(model) as report:
        paths = tuple(
            {key: str(value) for key, value in asdict(choice).items()} for choice in report.paths
        )
    checks = tuple(_checks(model, config))
    return PathParity(
        model=type(model).__name__, stock=config.stock, paths=() if config.stock else paths,
        checks=checks,
    )  # fmt: skip


def _tokens(model: Any, config: PathParityConfig) -> Int64[Tensor, "b l"]:
    parameter = next(model.parameters())
    shape = (config.batch, config.length + config.following)
    draw = generator(config.seed, "path parity")
    return torch.randint(1, model.config.vocab_size, shape, generator=draw).to(parameter.device)


def _checks(model: Any, config: PathParityConfig) -> Iterator[PathCheck]:
    tokens = _tokens(model, config)
    ids = tokens[:, : config.length]
    tolerance = TOLERANCES[next(model.parameters()).dtype]
    kernel = int(getattr(model.config, "conv_kernel", 4))
    chunks = config.chunks or tuple(sorted({1, max(1, kernel - 1), 13, 17}))
    with running(model, backend=None, stock=config.stock):
        whole = logits_of(model, ids)
        for chunk in chunks:
            name = "token by token" if chunk == 1 else f"chunks of {chunk}"
            yield _compare(
                f"whole against {name}", logits_in_chunks(model, ids, chunk), whole, tolerance
            )
        for left in (True, False):
            name = f"padded on the {'left' if left else 'right'} against alone"
            yield _padding(model, name, tokens, config, tolerance)
        rounded = logits_in_chunks(model, ids, 1, state=torch.bfloat16)
        yield _compare(
            "state in float32 against bfloat16", rounded, whole, max(BF16_STATE, tolerance)
        )
    if config.stock:
        return
    with running(model, backend="reference"):
        judge = logits_of(model, ids)
    for backend in scan_backends(model)[1:]:
        with running(model, backend=backend):
            yield _compare(f"{backend} against reference", logits_of(model, ids), judge, tolerance)


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
    return _compare(name, torch.cat(together), torch.cat(alone), tolerance)


def _compare(
    name: str, got: Float[Tensor, "..."], wanted: Float[Tensor, "..."], tolerance: float
) -> PathCheck:
    finite = bool(got.isfinite().all()) and bool(wanted.isfinite().all())
    scale = float(wanted.abs().max().clamp_min(1.0)) if finite else 1.0
    difference = float((got - wanted).abs().max()) / scale if finite else math.inf
    return PathCheck(name=name, difference=difference, tolerance=tolerance)
