"""Small real systems: a layer's modes as matrices, and matrices as modes again.

``z_t = F z_{t−1} + G u_t``, ``y_t = W z_t`` with ``z = (Re x, Im x)`` of every state. A layer that
runs in both directions of time shares F and G; its two read-outs are stacked, so that one
projection serves both.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Complex128, Float64
from torch import Tensor

SMALLEST = 1e-9
"""Smallest |λ̄| that is written: a smaller one forgets everything within a step, too."""


@dataclass(frozen=True, kw_only=True)
class RealSystem:
    """A real state space; ``o`` holds the outputs of all directions, W reads the present state."""

    F: Float64[Tensor, "k k"]
    G: Float64[Tensor, "k i"]
    W: Float64[Tensor, "o k"]
    D: Float64[Tensor, "o i"]

    @property
    def order(self) -> int:
        """Number of real states."""
        return self.F.shape[0]

    def projected(self, left: Float64[Tensor, "k j"], right: Float64[Tensor, "k j"]) -> RealSystem:
        """Return the system on the columns of ``right``, along those of ``left`` (leftᵀright=1)."""
        return RealSystem(
            F=left.mT @ self.F @ right, G=left.mT @ self.G, W=self.W @ right, D=self.D
        )


@dataclass(frozen=True, kw_only=True)
class Diagonal:
    """A system in its eigenvectors: ``y = factor · Re(C x)``, one row of states per mode.

    ``condition`` is that of the eigenvectors: how much rounding grows on the way.
    """

    A: Complex128[Tensor, "n"]
    B: Complex128[Tensor, "n i"]
    C: Complex128[Tensor, "n o"]
    condition: float


def system_of_modes(
    A: Complex128[Tensor, "n"],
    B: Complex128[Tensor, "n i"],
    C: Complex128[Tensor, "n o"],
    factor: float,
) -> RealSystem:
    """Return modes with ``y = factor · Re(C x)`` as a real system of order 2n."""
    turn = torch.stack([torch.stack([A.real, -A.imag], -1), torch.stack([A.imag, A.real], -1)], -2)
    rows = torch.view_as_real(B).movedim(-1, 1).flatten(0, 1)
    columns = factor * torch.view_as_real(C.conj().resolve_conj()).movedim(-1, 1).flatten(0, 1)
    return RealSystem(
        F=torch.block_diag(*turn) if len(turn) else torch.zeros(0, 0, dtype=torch.float64),
        G=rows,
        W=columns.mT.contiguous(),
        D=torch.zeros(C.shape[1], B.shape[1], dtype=torch.float64),
    )


def diagonal_of(system: RealSystem, factor: float) -> Diagonal:
    """Return a system in its eigenvectors.

    A real eigenvalue takes a mode of its own, so there may be more modes than half the order.
    """
    if not system.order:
        empty = torch.zeros(0, dtype=torch.complex128)
        inputs, outputs = system.G.shape[1], system.W.shape[0]
        return Diagonal(
            A=empty, B=empty.new_zeros(0, inputs), C=empty.new_zeros(0, outputs), condition=1.0
        )
    values, vectors = torch.linalg.eig(system.F)
    condition = float(torch.linalg.cond(vectors))
    if not condition < 1e14:
        return Diagonal(A=values[:0], B=vectors[:0, :1], C=vectors[:0, :1], condition=torch.inf)
    B = torch.linalg.solve(vectors, system.G.to(vectors.dtype))
    C = (system.W.to(vectors.dtype) @ vectors).mT
    # A real matrix has exactly real eigenvalues and exactly conjugate pairs.
    one = values.imag >= 0
    weight = torch.where(values[one].imag > 0, 2.0 / factor, 1.0 / factor).unsqueeze(-1)
    A, B, C = values[one], B[one], weight * C[one]
    # Rounding of a real mode's rows would be a state of its own.
    real = (A.imag == 0).unsqueeze(-1)
    B, C = (torch.where(real, item.real.to(item.dtype), item) for item in (B, C))
    small = A.abs() < SMALLEST
    return Diagonal(
        A=torch.where(small, torch.full_like(A, SMALLEST), A),
        B=B,
        C=C,
        condition=condition,
    )


def slots_needed(system: RealSystem) -> int:
    """Return how many modes a system takes: one per conjugate pair, one per real eigenvalue."""
    if not system.order:
        return 0
    values = torch.linalg.eigvals(system.F)
    return int((values.imag >= 0).sum())
