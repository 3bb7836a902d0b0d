"""Balanced truncation of the states of a group: the best basis of fewer, in closed form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float64
from torch import Tensor

from ssmith.core.grouped import StateSample
from ssmith.core.selective import Statistics
from ssmith.criteria.grouped.energies import state_metric
from ssmith.criteria.grouped.protocol import GroupCriterion

_FLOOR = 1e-9
"""Of the largest eigenvalue: directions below are silent."""


@dataclass(frozen=True, kw_only=True)
class GroupBasis:
    """A basis of fewer states.

    With ``B → write·B`` and ``C → read·C`` the states of the group become ``H·writeᵀ``, exactly:
    the decay of a head is one number, which commutes with any change of basis.

    Args:
        write: Pᵀ, rows are new states.
        read: M.
        values: σ of all directions, descending: like Hankel singular values of the group.
    """

    write: Float64[Tensor, "g r n"]
    read: Float64[Tensor, "g r n"]
    values: Float64[Tensor, "g n"]

    @property
    def kept(self) -> float:
        """Share of Σσ² in the directions that stay, over all groups."""
        squares = self.values.square()
        whole = float(squares.sum())
        return float(squares[:, : self.write.shape[1]].sum()) / whole if whole else 1.0


@dataclass(frozen=True, kw_only=True)
class BalancedGroups(GroupCriterion):
    """Balanced truncation: fewer states in a basis of their own, each a mixture of all.

    Replacing the read-out ``C`` by ``P M C`` costs the output ``E[Cᵀ(I−PM)ᵀ K (I−PM) C]``. With K
    weighted by ‖C‖² and C Cᵀ by tr K, taken as independent, it is
    ``‖K^½ (I − P M) Q^½‖²``, whose minimum over rank r is the SVD ``K^½ Q^½ = U Σ Vᵀ``:
    ``P = K^−½ U_r Σ_r^½``, ``M = Σ_r^½ V_rᵀ Q^−½``. Then ``PᵀKP = Σ_r = M Q Mᵀ`` and ``M P = I``.

    Source: balanced truncation (Moore, 1981), carried over to the states of a Mamba-2 group.
    Differs: Gramians are measured on data; there is no closure error, as there is for Mamba-1.
    """

    label: ClassVar[str] = "Balanced truncation"
    semantics: ClassVar[str] = "project"

    def gather(self, sample: StateSample) -> Statistics:
        K, C = state_metric(sample), sample.C.double() * sample.valid[:, None, None]
        read, metric = C.square().sum(-1), K.diagonal(dim1=-2, dim2=-1).sum(-1)
        return {
            "metric": torch.einsum("bgnm,bg->gnm", K, read),
            "read": torch.einsum("bgn,bgm,bg->gnm", C, C, metric),
            "read energy": read.sum(0),
            "metric energy": metric.sum(0),
        }

    def basis(self, sums: Statistics, kept: int) -> GroupBasis:
        """Return the best basis of so many states for each group."""
        K = sums["metric"] / sums["read energy"].clamp(min=1e-300)[:, None, None]
        Q = sums["read"] / sums["metric energy"].clamp(min=1e-300)[:, None, None]
        (K_root, K_back), (Q_root, Q_back) = _roots(K), _roots(Q)
        U, values, Vh = torch.linalg.svd(K_root @ Q_root)
        # The signs of singular vectors are the library's choice: the largest entry decides.
        largest = U.gather(1, U.abs().argmax(1, keepdim=True)).sign()
        U, Vh = U * largest, Vh * largest.mT
        root = values[:, :kept].sqrt().unsqueeze(-1)
        write = root * (K_back @ U[:, :, :kept]).mT
        return GroupBasis(write=write, read=root * (Vh[:, :kept] @ Q_back), values=values)


def _roots(gram: Float64[Tensor, "g n n"]) -> tuple[Tensor, Tensor]:
    """Return the symmetric square root of each matrix, and its inverse."""
    values, vectors = torch.linalg.eigh((gram + gram.mT) / 2)
    top = values[:, -1:].clamp(min=0)
    # Where nothing was seen, all directions are alike.
    values = torch.where(top > 0, values.clamp(min=_FLOOR * top), 1.0)
    root = values.sqrt().unsqueeze(-2)
    return (vectors * root) @ vectors.mT, (vectors / root) @ vectors.mT
