"""Reduce a small system by projection: balanced truncation and singular perturbation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from ssmith.surgery.systems import RealSystem

RANK = 1e-12
"""Hankel singular values below this share of the largest are rounding, not dynamics."""


@dataclass(frozen=True, kw_only=True)
class Balanced:
    """A system in coordinates where every state is as easily reached as seen.

    Its states are in falling order of their Hankel singular values; what is below rounding is left
    out.
    """

    system: RealSystem
    hankel: Float64[Tensor, "k"]


def balance(
    system: RealSystem, reached: Float64[Tensor, "k k"], seen: Float64[Tensor, "k k"]
) -> Balanced:
    """Balance a system by the square-root method.

    ``reached`` are second moments of its states: the controllability Gramian, or those on data;
    ``seen`` is the observability Gramian.

    Source: Laub, Heath, Paige, Ward (1987); Tombs and Postlethwaite (1987).
    Differs: square roots by eigenvectors, so that Gramians may be singular.
    """
    first, second = _root(reached), _root(seen)
    left, hankel, right = torch.linalg.svd(second.mT @ first)
    rank = int((hankel > RANK * hankel[:1].clamp(min=1e-300)).sum()) if hankel.numel() else 0
    scale = hankel[:rank].rsqrt()
    onto = first @ right.mT[:, :rank] * scale
    along = second @ left[:, :rank] * scale
    return Balanced(system=system.projected(along, onto), hankel=hankel[:rank])


def truncated(balanced: Balanced, order: int) -> RealSystem:
    """Return the leading part of a balanced system.

    With the true Gramians the H∞ error is at most twice the sum of the Hankel singular values left
    out. ``order`` counts the real states that stay.

    Source: balanced truncation (Moore 1981; bound: Enns 1984, Glover 1984).
    Differs: nothing.
    """
    eye = torch.eye(balanced.system.order, dtype=torch.float64)[:, :order]
    return balanced.system.projected(eye, eye)


def perturbed(balanced: Balanced, order: int) -> RealSystem:
    """Return the leading part of a balanced system with the rest at its steady state.

    Keeps the response to constant input, and the bound of `truncated`. What the rest passes on at
    once is added to D.

    Source: balanced singular perturbation (Liu and Anderson 1989).
    Differs: the read-out sees the present state, so W replaces C of the source after one step.
    """
    whole, k = balanced.system, order
    F, eye = whole.F, torch.eye(whole.order - order, dtype=torch.float64)
    # x₂ = F₂₁ x₁⁻ + F₂₂ x₂⁻ + G₂ u with x₂⁻ = x₂
    settled = torch.linalg.solve(eye - F[k:, k:], torch.cat([F[k:, :k], whole.G[k:]], dim=1))
    onto, at_once = settled[:, :k], settled[:, k:]
    F_r, G_r = F[:k, :k] + F[:k, k:] @ onto, whole.G[:k] + F[:k, k:] @ at_once
    # The read-out is of x₁ now and of x₂ = onto·x₁⁻ + at_once·u, x₁⁻ = F_r⁻¹(x₁ − G_r u).
    before = torch.linalg.solve(F_r.mT, onto.mT).mT
    return RealSystem(
        F=F_r,
        G=G_r,
        W=whole.W[:, :k] + whole.W[:, k:] @ before,
        D=whole.D + whole.W[:, k:] @ (at_once - before @ G_r),
    )


def stein(
    F: Float64[Tensor, "k k"], F_r: Float64[Tensor, "j j"], right: Float64[Tensor, "k j"]
) -> Float64[Tensor, "k j"]:
    """Solve ``X = F X F_rᵀ + right`` in the eigenvectors of both matrices."""
    if not right.numel():
        return right.clone()
    values, vectors = torch.linalg.eig(F)
    values_r, vectors_r = torch.linalg.eig(F_r)
    turned = torch.linalg.solve(vectors, right.to(vectors.dtype))
    turned = torch.linalg.solve(vectors_r, turned.mT).mT
    turned = turned / (1 - values.unsqueeze(-1) * values_r)
    solution: Tensor = (vectors @ turned @ vectors_r.mT).real
    return solution


def _root(gramian: Float64[Tensor, "k k"]) -> Float64[Tensor, "k k"]:
    """Return R with ``R Rᵀ`` the Gramian, whose negative eigenvalues are rounding."""
    values, vectors = torch.linalg.eigh(0.5 * (gramian + gramian.mT))
    root: Tensor = values.clamp(min=0).sqrt() * vectors
    return root
