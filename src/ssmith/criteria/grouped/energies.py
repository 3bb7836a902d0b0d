"""What states add to the energy of a layer's output, each alone or with cross terms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float64
from torch import Tensor

from ssmith.core.grouped import StateSample
from ssmith.core.selective import Statistics
from ssmith.criteria.grouped.protocol import StateScores


def state_metric(sample: StateSample) -> Float64[Tensor, "b g n n"]:
    """Return K = Σ Hᵀ diag(ω) H over the channels of each group, zero where a row does not count.

    An error δ of what reads the states at that step costs the layer's output ``δᵀ K δ``.
    """
    weighted = sample.states * (sample.gain * sample.valid[:, None, None]).unsqueeze(-1)
    return (weighted.mT @ sample.states).double()


@dataclass(frozen=True, kw_only=True)
class GroupEnergy(StateScores):
    """Energy that each state alone gives to the layer's output: ``Σ_t K_jj C_j²``.

    Source: GHOST's score (arXiv 2602.11408), with the gate, the norm and ``out_proj`` in the
        metric, to first order and by their diagonal.
    """

    label: ClassVar[str] = "Energy at the output"

    def gather(self, sample: StateSample) -> Statistics:
        C = sample.C.double()
        return {"gram": torch.einsum("bgnm,bgn,bgm->gnm", state_metric(sample), C, C)}

    def scores(self, sums: Statistics) -> Float64[Tensor, "g n"]:
        return sums["gram"].diagonal(dim1=-2, dim2=-1)


@dataclass(frozen=True, kw_only=True)
class GroupGreedy(GroupEnergy):
    """Greedy removal by the energy of everything removed together: ``1ᵀ G_RR 1``.

    With ``G = Σ_t K ⊙ C Cᵀ`` states that cancel one another go together, and those that add up
    stay.

    Source: backward elimination on the Gram of the states' contributions.
    """

    label: ClassVar[str] = "Greedy on the Gram at the output"

    def scores(self, sums: Statistics) -> Float64[Tensor, "g n"]:
        gram = sums["gram"]
        own, crossed = gram.diagonal(dim1=-2, dim2=-1), torch.zeros_like(gram[..., 0])
        place = torch.full_like(own, torch.inf)
        rows = torch.arange(len(gram), device=gram.device)
        for step in range(own.shape[-1]):
            costs = (own + 2 * crossed).masked_fill(place.isfinite(), torch.inf)
            chosen = costs.argmin(-1)
            place[rows, chosen] = float(step)
            crossed = crossed + gram[rows, :, chosen]
        return place
