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
    """Run `reference.diagonal_scan` on the best path there is.

    ``overwrite``: ``Bu`` is not needed any more, and the states may take its place where no
    gradient is tracked, which saves a tensor of their size.
    """
    backend = chosen("diagonal_scan", Bu)
    if backend == "native":
        return native.diagonal_scan(A_bar, Bu, x0, reverse=reverse, overwrite=overwrite)
    scan = reference.diagonal_scan if backend == "reference" else chunked.diagonal_scan
    return scan(A_bar, Bu, x0, reverse=reverse)
