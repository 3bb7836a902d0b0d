"""Initial eigenvalues of S4D."""

from __future__ import annotations

import math

import torch
from jaxtyping import Complex
from torch import Tensor

from ssmith.core.errors import InputError
from ssmith.families.lti import Initialisation
from ssmith.families.s5.init import hippo_legs_normal


def eigenvalues(kind: Initialisation, states: int, conj_sym: bool) -> Complex[Tensor, "n"]:
    """Return the initial eigenvalues of one channel.

    ``lin``: ``−½ + iπk``. ``inv``: ``−½ + i·(N/π)·(N/(2k + 1) − 1)``. ``legs`` (or ``hippo``): the
    eigenvalues of HiPPO-LegS's normal part. N counts both members of each pair.

    Without ``conj_sym`` both of each pair are returned.

    Source: S4D (arXiv 2206.11893) §4, S4D-Lin, S4D-Inv and S4D-LegS.
    """
    if not conj_sym and states % 2:
        raise InputError(
            f"{states} states per channel without conjugate symmetry", allowed="an even number"
        )
    pairs = states if conj_sym else states // 2
    full = 2 * pairs
    k = torch.arange(pairs, dtype=torch.float64)
    if kind == "lin":
        imaginary = math.pi * k
    elif kind == "inv":
        imaginary = full / math.pi * (full / (2 * k + 1) - 1)
    elif kind in ("legs", "hippo"):
        imaginary = hippo_legs_normal(full)[0][pairs:].imag
    else:
        raise InputError(f"initialisation {kind!r}", allowed="'lin', 'inv', 'legs' or 'hippo'")
    half = torch.complex(torch.full_like(imaginary, -0.5), imaginary)
    return half if conj_sym else torch.cat([half, half.conj()])
