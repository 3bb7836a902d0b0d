"""Initial values of S5: HiPPO-LegS in diagonal blocks."""

from __future__ import annotations

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from ssmith.core.errors import InputError


def hippo_legs_normal(n: int) -> tuple[Complex[Tensor, "n"], Complex[Tensor, "n n"]]:
    """Return eigenvalues and eigenvectors of the normal part of HiPPO-LegS.

    The matrix is ``S = A + P Pᵀ`` with ``A`` the HiPPO-LegS matrix and ``P_i = √(i + ½)``; it is
    normal, with real part −½ on the whole diagonal, so its eigenvectors are unitary.

    Source: S5 (arXiv 2208.04933) §4.3; S4 (arXiv 2111.00396) appendix C.
    """
    p = torch.sqrt(1 + 2 * torch.arange(n, dtype=torch.float64))
    A = torch.diag(torch.arange(n, dtype=torch.float64)) - torch.tril(torch.outer(p, p))
    low_rank = torch.sqrt(torch.arange(n, dtype=torch.float64) + 0.5)
    S = A + torch.outer(low_rank, low_rank)
    real = torch.diagonal(S).mean()
    # −i·S without its diagonal is Hermitian: eigh is exact where eig would not be.
    skew = (S - torch.diag(torch.diagonal(S))).to(torch.complex128)
    imaginary, V = torch.linalg.eigh(-1j * skew)
    return torch.complex(real.expand(n), imaginary), V


def block_diagonal_hippo(
    states: int, blocks: int, conj_sym: bool
) -> tuple[Complex[Tensor, "s"], Complex[Tensor, "f s"]]:
    """Return ``states`` eigenvalues in ``blocks`` HiPPO blocks, and the block eigenvectors.

    With ``conj_sym`` each block keeps the half with positive imaginary part, so that ``states``
    stored values stand for twice as many, and V has ``f = 2·states`` rows.
    """
    if blocks < 1 or states % blocks:
        raise InputError(
            f"{states} states in {blocks} blocks", allowed="blocks that divide the states"
        )
    stored = states // blocks
    full = 2 * stored if conj_sym else stored
    Lambda, V = hippo_legs_normal(full)
    if conj_sym:
        Lambda, V = Lambda[stored:], V[:, stored:]
    return Lambda.repeat(blocks), torch.block_diag(*[V] * blocks)


def log_steps(
    states: int, dt_min: float, dt_max: float, generator: torch.Generator
) -> Float[Tensor, "s 1"]:
    """Return log step sizes, log-uniform in [dt_min, dt_max]."""
    low, high = torch.tensor([dt_min, dt_max], dtype=torch.float64).log()
    draw = torch.rand(states, 1, generator=generator, dtype=torch.float64)
    steps: Tensor = low + draw * (high - low)
    return steps
