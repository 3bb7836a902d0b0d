"""Projection cuts without new weights: magnitude, random and Wanda."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from ssmith.core.checks import check_choice, check_integer
from ssmith.core.pattern import Amount, Pattern, keep_largest, removed_counts
from ssmith.core.seeds import generator
from ssmith.criteria.weights.cut import WeightCut, check_projection, measured_cut

Over = Literal["row", "tensor"]
"""Weights are compared within each output row, or over the whole tensor."""


class _Plain(ABC):
    """A cut that leaves the other weights as they are."""

    needs: ClassVar[tuple[str, ...]] = ()

    def __call__(
        self, weight: Float[Tensor, "o i"], gram: Float64[Tensor, "i i"], amount: Amount
    ) -> WeightCut:
        """Cut a projection (see `check_projection` for what raises)."""
        check_projection(weight, gram, amount)
        return measured_cut(weight, weight, self._keep(weight, gram, amount), gram)

    @abstractmethod
    def _keep(self, weight: Tensor, gram: Tensor, amount: Amount) -> Tensor:
        """Return what stays."""


@dataclass(frozen=True, kw_only=True)
class _Over(_Plain, ABC):
    over: Over = "row"

    def __post_init__(self) -> None:
        check_choice("over", self.over, ("row", "tensor"))


@final
@dataclass(frozen=True, kw_only=True)
class Wanda(_Over):
    """Remove the smallest ``|W_ij|·‖x_j‖₂``; the other weights stay as they are.

    Args:
        over: compare within each output row, as published, or over the tensor.

    Source: Wanda (arXiv 2306.11695), equation 1.
    Differs: fractions are exact over the whole tensor where a row cannot be divided; the released
        code removes int(inputs·s) of each row.
    """

    needs: ClassVar[tuple[str, ...]] = ("gram",)

    @property
    def label(self) -> str:
        """Name for plots and tables."""
        return "Wanda" if self.over == "row" else "Wanda over tensors"

    def _keep(self, weight: Tensor, gram: Tensor, amount: Amount) -> Tensor:
        scores = weight.abs().double() * gram.diagonal().clamp(min=0).sqrt()
        return keep_by(scores, amount, self.over)


@final
@dataclass(frozen=True, kw_only=True)
class WeightMagnitude(_Over):
    """Remove the smallest ``|W_ij|``; the other weights stay as they are.

    Args:
        over: compare over the tensor, as is usual, or within each output row.

    Source: the baseline of SparseGPT (arXiv 2301.00774), magnitude within a layer.
    Differs: a share s removes s·size weights, halves rounded up; the released code removes
        int(size·s) + 1.
    """

    label: ClassVar[str] = "magnitude"

    over: Over = "tensor"

    def _keep(self, weight: Tensor, gram: Tensor, amount: Amount) -> Tensor:
        return keep_by(weight.abs(), amount, self.over)


@final
@dataclass(frozen=True, kw_only=True)
class RandomWeights(_Plain):
    """Remove weights at random, the baseline below every method.

    Args:
        seed: of the draw; the same for every projection of one shape.

    Source: a baseline, without one.
    Differs: nothing.
    """

    label: ClassVar[str] = "random"

    seed: int = 0

    def __post_init__(self) -> None:
        check_integer("seed", self.seed, at_least=0)

    def _keep(self, weight: Tensor, gram: Tensor, amount: Amount) -> Tensor:
        draw = torch.rand(weight.shape, generator=generator(self.seed, "weights", *weight.shape))
        return keep_by(draw.to(weight.device), amount, "tensor")


def keep_by(scores: Float[Tensor, "o i"], amount: Amount, over: Over) -> Bool[Tensor, "o i"]:
    """Return what an amount leaves when the smallest scores go.

    ``over`` says within what a fraction's weights are compared; a pattern lies along the inputs.
    """
    if isinstance(amount, Pattern):
        return amount.mask(scores)
    if over == "tensor":
        count = int(removed_counts(amount, torch.tensor([scores.numel()])))
        return keep_largest(scores.flatten(), count).view_as(scores)
    counts = removed_counts(amount, torch.full(scores.shape[:1], scores.shape[1]))
    return keep_largest(scores, counts)
