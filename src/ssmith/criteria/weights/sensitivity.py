"""How sensitive a projection is, from the energy of its inputs."""

from __future__ import annotations

from typing import Literal

from jaxtyping import Float64
from torch import Tensor

from ssmith.core.checks import check_choice
from ssmith.core.errors import InputError

Measure = Literal["released", "trace"]


def sensitivity(
    energies: Float64[Tensor, "i"], windows: float, measure: Measure = "released"
) -> float:
    """Return one number for a projection, larger for one that is to keep more.

    With ``H = (2/n) Σ x xᵀ``, n counting windows: ``Σ_j H_jj² / i``, or the true trace per input,
    ``Σ_j H_jj / i``.

    ``energies`` are ``Σ x_j²`` of each input.

    Source: SparseSSM (arXiv 2506.09613): the trace in the text, squared diagonals in its code.
    Differs: nothing; which one is meant is said.
    """
    check_choice("measure", measure, ("released", "trace"))
    if not windows > 0:
        raise InputError(f"{windows:g} windows", allowed="at least one")
    diagonal = energies * (2.0 / windows)
    return float((diagonal.square() if measure == "released" else diagonal).mean())
