"""What a check of paths is: its settings, one comparison, and all of them."""

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
smaller).

transformers computes norms and logits in float32 even in a float64 model.
"""

DOUBLE = 1e-10
"""The same where all is computed in float64: what is left is a difference of formulas."""

SINGLE = 1e-5
"""Smallest tolerance in a narrower dtype, where what rounding alone does is known."""

ROUNDINGS = 4.0
"""Two ways in a narrower dtype may differ by this many times what rounding alone does."""

PERPLEXITY = 1e-3
"""Largest relative difference of perplexities that counts as equal."""

ROUNDED_PER_LAYER = (torch.float64, torch.float32)
"""Dtypes whose tolerance is meant per layer: rounding adds up over depth, about linearly."""

BF16_STATE = 5e-2
"""The same for a state that is rounded to bfloat16 after every token, where it is not known what
that costs a model in float64: a deep one that remembers long adds up thousands of roundings."""


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
class PathSpeed:
    """How fast one path ran here.

    Args:
        work: what was timed.
        backend: the path of the scan, or "stock".
        tokens: tokens of one run, over the whole batch.
        seconds: the faster of two runs after a first one.
    """

    work: str
    backend: str
    tokens: int
    seconds: float

    @property
    def tokens_per_second(self) -> float:
        """Tokens over seconds."""
        return self.tokens / self.seconds


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
        left_out: what was not compared, with the reason.
        speeds: how fast each path ran.
        text: what perplexity was compared on; None if it was not.
        rounding: how far the reference in a language model's own dtype is from float64; None if
            it was not measured.
    """

    model: str
    stock: bool
    paths: tuple[dict[str, str], ...]
    checks: tuple[PathCheck, ...]
    left_out: tuple[NotCompared, ...] = ()
    speeds: tuple[PathSpeed, ...] = ()
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
            "left_out": [asdict(item) for item in self.left_out],
            "speeds": [
                {**asdict(item), "tokens_per_second": item.tokens_per_second}
                for item in self.speeds
            ],
            "text": self.text,
            "rounding": None if self.rounding is None else finite_or_none(self.rounding),
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
