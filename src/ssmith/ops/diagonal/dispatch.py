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
    overwrite: bool = False,
) -> tuple[Complex[Tensor, "b l s"], Complex[Tensor, "b s"]]:
    """Run ``x_t = A_bar x_{t−1} + Bu_t`` (see ``chunked.py`` for the contract).

    Args:
        A_bar: discrete eigenvalues.
        Bu: inputs to the states.
        x0: the state before the first step; zero if None.
        reverse: run from the last step to the first.
        overwrite: ``Bu`` is not needed any more: the states may take its place, which saves a
            tensor of their size where no gradient is tracked.

    Returns:
        All states, and the state after the last step that was run.
    """
    backend = chosen("diagonal_scan", Bu)
    if backend == "native":
        return native.diagonal_scan(A_bar, Bu, x0, reverse=reverse, overwrite=overwrite)
    scan = reference.diagonal_scan if backend == "reference" else chunked.diagonal_scan
    return scan(A_bar, Bu, x0, reverse=reverse)
