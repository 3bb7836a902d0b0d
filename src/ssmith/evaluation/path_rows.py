"""What a check of paths is: its settings, and the table of ways that must agree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from ssmith.core.checks import check_integer
from ssmith.core.errors import InputError
from ssmith.core.files import finite_or_none
from ssmith.core.sections import ParitySection
from ssmith.evaluation.parity import ParityCheck

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
class PathParity:
    """What was compared, and on which paths.

    ``paths`` tell per operation the path and why, empty for stock; ``rows`` hold also what was left
    out; ``rounding`` is how far the reference in a language model's own dtype is from float64.
    """

    model: str
    stock: bool = False
    paths: tuple[dict[str, str], ...]
    rows: tuple[ParityCheck, ...]
    text: dict[str, Any] | None = None
    rounding: float | None = None

    @property
    def checks(self) -> tuple[ParityCheck, ...]:
        """What was compared."""
        return tuple(item for item in self.rows if item.worst is not None)

    @property
    def left_out(self) -> tuple[ParityCheck, ...]:
        """What was not compared."""
        return tuple(item for item in self.rows if item.worst is None)

    @property
    def passed(self) -> bool:
        """Whether all ways agree."""
        return all(check.passed for check in self.checks)

    @property
    def worst(self) -> ParityCheck:
        """The comparison that used most of its tolerance."""
        return max(self.checks, key=lambda check: (check.worst or 0.0) / check.tolerance)

    def __str__(self) -> str:
        paths = [f"{path['op']} runs on {path['backend']}: {path['reason']}" for path in self.paths]
        rows = [
            f"{'agrees' if item.passed else 'DIFFERS'}  "
            f"{item.worst:.2g} of {item.tolerance:.2g}  {item.name}"
            for item in self.checks
        ]
        left = [f"not compared: {item.name}; {item.why_null}" for item in self.left_out]
        return "\n".join([self.model, *paths, *rows, *left])

    def section(self) -> ParitySection:
        """Return what a receipt says of it."""
        return ParitySection(
            passed=self.passed,
            tolerances={item.name: item.tolerance for item in self.checks},
            worst={item.name: finite_or_none(item.worst) for item in self.checks},
            why_null={item.name: item.why_null for item in self.left_out},
        )

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dict; a difference that is not finite is null."""
        checks = [
            {
                "name": item.name,
                "difference": finite_or_none(item.worst or 0.0),
                "tolerance": item.tolerance,
                "passed": item.passed,
            }
            for item in self.checks
        ]
        return {
            "model": self.model,
            "stock": self.stock,
            "paths": list(self.paths),
            "checks": checks,
            "left_out": [{"name": item.name, "reason": item.why_null} for item in self.left_out],
            "text": self.text,
            "rounding": finite_or_none(self.rounding),
            "passed": self.passed,
        }
