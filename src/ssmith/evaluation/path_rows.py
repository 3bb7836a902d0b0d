"""What a check of paths is: its settings, a row for each two ways that must agree, the table."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ssmith.core.checks import check_integer
from ssmith.core.errors import InputError
from ssmith.core.files import finite_or_none

TOLERANCES = {torch.float64: 2e-6, torch.float32: 2e-5, torch.bfloat16: 5e-2, torch.float16: 1e-2}
"""Largest difference that counts as equal, in units of the largest output (of 1, if that is
smaller); in float32 and float64 per layer: rounding adds up over depth, about linearly.

transformers computes norms and logits in float32 even in a float64 model.
"""

DOUBLE = 1e-10
"""The same where all is computed in float64: what is left is a difference of formulas."""


@dataclass(frozen=True, kw_only=True)
class PathParityConfig:
    """What is run.

    Args:
        length: steps of each sequence, ≥ 16; None for 40, or as many as the longest chunk takes.
        batch: sequences, ≥ 2.
        chunks: chunk lengths to try, each ≥ 1; None for 1, 3 and 13, of a language model also
            the convolution's length less one, the chunk its own code scans by (else 64), and one
            more.
        following: tokens that follow a padded prompt, and that are generated, ≥ 1; language models
            only.
        stock: run a language model's own code instead of the engine, to compare.
        backend: path the scan must take, or the check is refused; None for any.
        double_up_to: parameters up to which a language model is checked in float64 too, ≥ 0; the
            copy takes eight bytes of memory for each.
        seed: of the random input.

    Raises:
        InputError: if a value is outside its domain.
    """

    length: int | None = None
    batch: int = 2
    chunks: tuple[int, ...] | None = None
    following: int = 16
    stock: bool = False
    backend: str | None = None
    double_up_to: int = 500_000_000
    seed: int = 0

    def __post_init__(self) -> None:
        check_integer("length", 16 if self.length is None else self.length, at_least=16)
        check_integer("batch", self.batch, at_least=2)
        check_integer("following", self.following, at_least=1)
        check_integer("double_up_to", self.double_up_to, at_least=0)
        if self.chunks is not None and (not self.chunks or min(self.chunks) < 1):
            raise InputError(f"chunks is {self.chunks!r}", allowed="at least one length ≥ 1")
        if self.stock and self.backend is not None:
            raise InputError(
                f"backend {self.backend!r} is required of stock code, which has no paths of ours",
                next_step="leave one of the two out",
            )

    def length_for(self, chunks: tuple[int, ...]) -> int:
        """Return the steps of each sequence: enough for each chunk to be followed by another."""
        return max(40, max(chunks) + 5) if self.length is None else self.length

    def prompts(self, length: int) -> list[int]:
        """Return unequal lengths, one for each sequence, the longest of them ``length``."""
        return [max(2, length * (row + 1) // self.batch) for row in range(self.batch)]


@dataclass(frozen=True, kw_only=True)
class NotCompared:
    """A comparison that was left out.

    Args:
        name: of the comparison.
        reason: why, and what would run it.
    """

    name: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class PathCheck:
    """One row of the table: two ways to the same outputs.

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

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dict; a difference that is not finite is null."""
        return {
            **asdict(self),
            "difference": finite_or_none(self.difference),
            "passed": self.passed,
        }


def row(
    name: str, got: Float[Tensor, "..."], wanted: Float[Tensor, "..."], tolerance: float
) -> PathCheck:
    """Compare two ways to the same outputs."""
    finite = bool(got.isfinite().all()) and bool(wanted.isfinite().all())
    scale = float(wanted.abs().max().clamp_min(1.0)) if finite else 1.0
    difference = float((got - wanted).abs().max()) / scale if finite else math.inf
    return PathCheck(name=name, difference=difference, tolerance=tolerance)


@dataclass(frozen=True, kw_only=True)
class PathParity:
    """What was compared, and on which paths.

    Args:
        model: class of the model.
        stock: whether the model's own code was run.
        paths: per operation: the path, and why; empty for stock.
        checks: all comparisons.
        left_out: what was not compared, with the reason.
        text: what perplexity was compared on; None if it was not.
        rounding: how far the reference in a language model's own dtype is from float64; None if
            it was not measured.
    """

    model: str
    stock: bool = False
    paths: tuple[dict[str, str], ...]
    checks: tuple[PathCheck, ...]
    left_out: tuple[NotCompared, ...] = ()
    text: dict[str, Any] | None = None
    rounding: float | None = None

    @property
    def passed(self) -> bool:
        """Whether all ways agree."""
        return all(check.passed for check in self.checks)

    @property
    def worst(self) -> PathCheck:
        """The comparison that used most of its tolerance."""
        return max(self.checks, key=lambda check: check.difference / check.tolerance)

    def __str__(self) -> str:
        paths = [f"{path['op']} runs on {path['backend']}: {path['reason']}" for path in self.paths]
        rows = [
            f"{'agrees' if item.passed else 'DIFFERS'}  "
            f"{item.difference:.2g} of {item.tolerance:.2g}  {item.name}"
            for item in self.checks
        ]
        left = [f"not compared: {item.name}; {item.reason}" for item in self.left_out]
        return "\n".join([self.model, *paths, *rows, *left])

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dict."""
        checks = [check.as_dict() for check in self.checks]
        rounding = None if self.rounding is None else finite_or_none(self.rounding)
        return asdict(self) | {"checks": checks, "passed": self.passed, "rounding": rounding}
