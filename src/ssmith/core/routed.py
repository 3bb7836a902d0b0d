"""What criteria see of the experts that a router sends tokens to."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float, Int64
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Routed:
    """The experts that each of some tokens was sent to.

    Args:
        experts: how many there are.
        chosen: which of them each token went to.
        weights: of the router, by which their outputs are added.
        norms: of what they gave, before it is weighed.
    """

    experts: int
    chosen: Int64[Tensor, "t k"]
    weights: Float[Tensor, "t k"]
    norms: Float[Tensor, "t k"]
