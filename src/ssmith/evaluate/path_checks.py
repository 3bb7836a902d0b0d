"""What a check of paths is: its settings, one comparison, and all of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ssmith.core.errors import InputError
from ssmith.core.files import finite_or_none

TOLERANCES = {torch.float64: 2e-6, torch.float32: 2e-5, torch.bfloat16: 5e-2, torch.float16: 1e-2}
"""Largest difference that counts as equal, in units of the largest output (of 1, if that is
smaller).

transformers computes norms and logits in float32 even in a float64 model.
"""

ROUNDED_PER_LAYER = (torch.float64, torch.float32)
"""Dtypes whose tolerance is meant per layer: rounding adds up over depth, about linearly."""

BF16_STATE = 5e-2
"""The same for a state that is rounded to bfloat16 after every token."""


@dataclass(frozen=True, kw_only=True)
class PathParityConfig:
    """What is run.

    Args:
        length: steps of each sequence, ≥ 16.
        batch: sequences, ≥ 2.
        chunks: chunk lengths to try, each ≥ 1; None for 1, 3 and 13, of a language model also
            the convolution's length less one and 17.
        following: tokens that follow a padded prompt, ≥ 1; language models only.
        stock: run a language model's own code instead of the engine, to compare.
        backend: path the scan must take, or the check is refused; None for any.
        seed: of the random input.

    Raises:
        InputError: if a value is outside its domain.
    """

    length: int = 40
    batch: int = 2
    chunks: tuple[int, ...] | None = None
    following: int = 4
    stock: bool = False
    backend: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.length < 16 or self.batch < 2 or self.following < 1:
            raise InputError(
                f"length {self.length}, batch {self.batch}, following {self.following}",
                allowed="length ≥ 16, batch ≥ 2, following ≥ 1",
            )
        if self.chunks is not None and (not self.chunks or min(self.chunks) < 1):
            raise InputError(f"chunks is {self.chunks!r}", allowed="at least one length ≥ 1")
        if self.stock and self.backend is not None:
            raise InputError(
                f"backend {self.backend!r} is required of stock code, which has no paths of ours",
                next_step="leave one of the two out",
            )


@dataclass(frozen=True, kw_only=True)
class PathCheck:
    """One comparison.

    Args:
        name: the two ways that were compared.
        difference: largest difference of outputs over the largest output; infinite if not finite.
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
        paths: per operation: the path, and why; empty for stock.
        checks: all comparisons.
        left_out: what the model does not allow, with the reason.
    """

    model: str
    stock: bool
    paths: tuple[dict[str, str], ...]
    checks: tuple[PathCheck, ...]
    left_out: tuple[tuple[str, str], ...] = ()

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
            "left_out": [{"name": name, "reason": reason} for name, reason in self.left_out],
        }  # fmt: skip


def tolerance_for(dtype: torch.dtype, layers: int) -> float:
    """Return the largest difference that passes in a model of some state space layers, ≥ 1."""
    return TOLERANCES[dtype] * (layers if dtype in ROUNDED_PER_LAYER else 1)


def compare_outputs(
    name: str, got: Float[Tensor, "..."], wanted: Float[Tensor, "..."], tolerance: float
) -> PathCheck:
    """Compare two ways to the same outputs.

    Args:
        name: of the comparison.
        got: outputs of one way.
        wanted: outputs of the other way.
        tolerance: largest difference that passes, in units of the largest output.

    Returns:
        The comparison.
    """
    finite = bool(got.isfinite().all()) and bool(wanted.isfinite().all())
    scale = float(wanted.abs().max().clamp_min(1.0)) if finite else 1.0
    difference = float((got - wanted).abs().max()) / scale if finite else math.inf
    return PathCheck(name=name, difference=difference, tolerance=tolerance)
