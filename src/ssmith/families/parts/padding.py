"""Padding in a batch: moved to the end of each row, so that it comes after everything it follows.

A layer that sees padding only at the end of a row computes every valid step as if the row were
alone: nothing flows backwards in time, and a step with Δ = 0 leaves the state as it was. Wherever
the user's padding is, left, right or between, rows are sorted into that form and back.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from ssmith.core.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Padding:
    """How the rows of one batch are sorted.

    ``order`` holds for each place after sorting the place before it.
    """

    order: Int64[Tensor, "b l"]
    lengths: Int64[Tensor, "b"]
    valid: Bool[Tensor, "b l"]

    @classmethod
    def of(cls, attention_mask: Tensor | None, length: int) -> Padding | None:
        """Read a mask of the last ``length`` steps; None if every step is valid."""
        if attention_mask is None:
            return None
        if attention_mask.ndim != 2 or attention_mask.shape[1] < length:
            raise InputError(
                f"attention_mask has shape {tuple(attention_mask.shape)}",
                allowed=f"(batch, {length}), one number per step",
            )
        valid = attention_mask[:, attention_mask.shape[1] - length :] != 0
        # A compiled program cannot look, and sorts what may need no sorting.
        if not torch.compiler.is_compiling() and bool(valid.all()):
            return None
        order = torch.argsort(~valid, dim=1, stable=True)
        lengths = valid.sum(dim=1)
        place = torch.arange(length, device=valid.device)
        return cls(order=order, lengths=lengths, valid=place < lengths[:, None])

    def sort(self, x: Float[Tensor, "b l m"]) -> Float[Tensor, "b l m"]:
        """Move the valid steps of each row to its front, in order."""
        return x.gather(1, self.order[:, :, None].expand_as(x))

    def restore(self, x: Float[Tensor, "b l m"]) -> Float[Tensor, "b l m"]:
        """Undo `sort`; padding steps come back as zeros."""
        x = x * self.valid[:, :, None]
        return torch.zeros_like(x).scatter(1, self.order[:, :, None].expand_as(x), x)

    def last_steps(
        self, x: Float[Tensor, "b l e"], before: Float[Tensor, "b k e"]
    ) -> Float[Tensor, "b k e"]:
        """Return the last k valid steps of each sorted row, reaching into ``before`` if short."""
        k = before.shape[1]
        index = self.lengths[:, None] + torch.arange(k, device=x.device)
        both = torch.cat([before, x], dim=1)
        return both.gather(1, index[:, :, None].expand(-1, -1, x.shape[2]))
