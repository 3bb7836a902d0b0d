"""N:M patterns: in every group of M neighbours exactly N stay."""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ssmith.core.checks import check_integer
from ssmith.core.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Pattern:
    """Keep N of M: of every ``of`` neighbours along the last axis, ``keep`` stay.

    Args:
        keep: N, at least 1.
        of: M, larger than N.
    """

    keep: int
    of: int

    def __post_init__(self) -> None:
        check_integer("keep", self.keep, at_least=1)
        check_integer("of", self.of, at_least=self.keep + 1)

    @classmethod
    def parse(cls, text: str) -> Pattern:
        """Read ``"2:4"``."""
        found = re.fullmatch(r"(\d+):(\d+)", text)
        if found is None or not 1 <= int(found[1]) < int(found[2]):
            raise InputError(
                f"pattern {text!r}", allowed="N:M with 1 ≤ N < M", next_step="2:4 keeps 2 of 4"
            )
        return cls(keep=int(found[1]), of=int(found[2]))

    @classmethod
    def from_plain(cls, value: object) -> Pattern:
        """Read what `as_plain` wrote; errors as of `parse`."""
        return cls.parse(str(value))

    def as_plain(self) -> str:
        """Return ``"2:4"``."""
        return str(self)

    @property
    def removed(self) -> float:
        """Fraction removed, in (0, 1)."""
        return 1.0 - self.keep / self.of

    def check(self, size: int, what: str) -> None:
        """Raise unless an axis can be divided into groups."""
        if size % self.of:
            raise InputError(
                f"{what} has {size} entries along the pattern {self}",
                allowed=f"a multiple of {self.of}",
                next_step="give a fraction in place of a pattern for it",
            )

    def mask(self, scores: Float[Tensor, "*rows i"]) -> Bool[Tensor, "*rows i"]:
        """Return True for the N largest scores of each group; equal scores in order of index."""
        self.check(scores.shape[-1], "the tensor")
        groups = scores.unflatten(-1, (-1, self.of))
        best = groups.argsort(dim=-1, descending=True, stable=True)[..., : self.keep]
        return torch.zeros_like(groups, dtype=torch.bool).scatter_(-1, best, True).flatten(-2)

    def __str__(self) -> str:
        return f"{self.keep}:{self.of}"


Amount = float | Pattern
"""How much is removed: a fraction in [0, 1), or a pattern."""


def removed_share(amount: Amount) -> float:
    """Return the fraction an amount removes."""
    return amount.removed if isinstance(amount, Pattern) else amount


def amount_as_json(amount: Amount) -> float | str:
    """Return an amount as receipts show it."""
    return str(amount) if isinstance(amount, Pattern) else amount


def removed_counts(share: float, sizes: Tensor) -> Tensor:
    """Split a fraction over consecutive parts so that the total is exact after every part.

    They sum to ``share·Σ sizes``, rounded half up.
    """
    reached = torch.floor(share * sizes.double().cumsum(0) + 0.5 + 1e-9).long()
    return reached.diff(prepend=reached.new_zeros(1))


def keep_largest(
    scores: Float[Tensor, "*rows i"], removed: int | Tensor
) -> Bool[Tensor, "*rows i"]:
    """Drop the smallest scores of every row; of equal ones, the later index goes first."""
    size = scores.shape[-1]
    if isinstance(removed, Tensor):
        removed = removed.to(scores.device).expand(scores.shape[:-1])[..., None]
        smallest = scores.sort(dim=-1).values.gather(-1, removed.clamp(max=size - 1))
    elif 0 < removed < size:
        # A selection takes a tenth of the time of a sort.
        smallest = scores.kthvalue(removed + 1, dim=-1, keepdim=True).values
    else:
        return torch.full_like(scores, removed <= 0, dtype=torch.bool)
    above, equal = scores > smallest, scores == smallest
    left = size - removed - above.sum(-1, keepdim=True)
    return above | (equal & (equal.cumsum(-1) <= left))
