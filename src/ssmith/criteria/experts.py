"""Scores of experts: what each gave to the tokens that the router sent to it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float64
from torch import Tensor

from ssmith.core.routed import Routed
from ssmith.core.selective import Statistics


@dataclass(frozen=True, kw_only=True)
class ExpertCriterion(ABC):
    """Says how much each expert of one layer matters.

    ``semantics`` and ``refits`` are those of criteria for groups.
    """

    label: ClassVar[str]
    semantics: ClassVar[str] = "remove"
    refits: ClassVar[bool] = False

    def gather(self, routed: Routed) -> Statistics:
        """Return sums over tokens: how many went to each expert, and what they got there."""
        amounts = self.amounts(routed).double().flatten()
        both = torch.stack([torch.ones_like(amounts), amounts])
        empty = both.new_zeros(2, routed.experts)
        count, amount = empty.index_add_(1, routed.chosen.flatten(), both)
        return {"count": count, "amount": amount}

    @abstractmethod
    def amounts(self, routed: Routed) -> Float64[Tensor, "t k"]:
        """Return what counts of each token at each of its experts."""

    def scores(self, sums: Statistics) -> Float64[Tensor, "e"]:
        """Return a score of every expert; the smallest of each part go."""
        return sums["amount"]


@dataclass(frozen=True, kw_only=True)
class REAP(ExpertCriterion):
    """Mean of ``g ‖E(x)‖`` over the tokens that went to an expert; 0 where none did.

    Source: REAP (arXiv 2510.13999).
    Differs: g is the weight the layer itself adds an expert's output by, normalised or not.
    """

    label: ClassVar[str] = "REAP"

    def amounts(self, routed: Routed) -> Float64[Tensor, "t k"]:
        return routed.weights.double() * routed.norms.double()

    def scores(self, sums: Statistics) -> Float64[Tensor, "e"]:
        return sums["amount"] / sums["count"].clamp(min=1)


@dataclass(frozen=True, kw_only=True)
class ExpertEnergy(ExpertCriterion):
    """Energy that an expert gives to the layer's output: the sum of ``g² ‖E(x)‖²``."""

    label: ClassVar[str] = "Energy at the output"

    def amounts(self, routed: Routed) -> Float64[Tensor, "t k"]:
        return (routed.weights.double() * routed.norms.double()).square()


@dataclass(frozen=True, kw_only=True)
class ExpertUse(ExpertCriterion):
    """How many tokens went to an expert."""

    label: ClassVar[str] = "Use"

    def amounts(self, routed: Routed) -> Float64[Tensor, "t k"]:
        return torch.ones_like(routed.weights, dtype=torch.float64)
