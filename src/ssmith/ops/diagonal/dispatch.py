"""The diagonal scan on the best path there is."""

from __future__ import annotations

from jaxtyping import Complex
from torch import Tensor

from ssmith.ops.backends import chosen
from ssmith.ops.diagonal import chunked, native, reference


def diagonal_scan(
    A_bar: Complex[Tensor, "s"],
    Bu: Complex[Tensor, "b l s"],
    x0: Complex[Tensor, "b s"] | None = None,
    *,
    reverse: bool = False,
) -> tuple[Complex[Tensor, "b l s"], Complex[Tensor, "b s"]]:
    """Run ``x_t = A_bar x_{t−1} + Bu_t`` (see ``chunked.py`` for the contract)."""
    twins = {"native": native.diagonal_scan, "reference": reference.diagonal_scan}
    scan = twins.get(chosen("diagonal_scan", Bu), chunked.diagonal_scan)
    return scan(A_bar, Bu, x0, reverse=reverse)
