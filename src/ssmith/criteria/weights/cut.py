"""What cutting a projection gives, and what it costs in the projection's own output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from ssmith.core.errors import InputError, NumericalError
from ssmith.core.pattern import Amount, Pattern


@dataclass(frozen=True, kw_only=True)
class WeightCut:
    """New weights of one projection, or new taps (e, k) of a convolution, 0 where removed.

    ``keep`` is True where a weight stays, ``error`` the squared change of the output over the
    calibration tokens, ``tr(Δ G Δᵀ)``, ``energy`` the squared output before, ``tr(W G Wᵀ)``.
    """

    weight: Float[Tensor, "o i"]
    keep: Bool[Tensor, "o i"]
    error: float
    energy: float

    @property
    def relative_error(self) -> float:
        """Error as a share of the output's energy; 0 for an output that is always zero."""
        return self.error / self.energy if self.energy > 0 else 0.0


@runtime_checkable
class WeightCriterion(Protocol):
    """Cuts one projection; settings are dataclass fields."""

    needs: ClassVar[tuple[str, ...]]

    @property
    def label(self) -> str:
        """Name for plots and tables."""

    def __call__(
        self, weight: Float[Tensor, "o i"], gram: Float64[Tensor, "i i"], amount: Amount
    ) -> WeightCut:
        """Cut a projection's weights by an amount."""


def measured_cut(
    before: Float[Tensor, "o i"],
    after: Float[Tensor, "o i"],
    keep: Bool[Tensor, "o i"],
    gram: Float64[Tensor, "... i i"],
) -> WeightCut:
    """Return a cut with its error.

    ``gram`` is ``Σ x xᵀ`` of the inputs; of filters one for each. The weights are rounded to the
    dtype of ``before``, and the error is that of the rounded ones.
    """
    rounded = (after * keep).to(before.dtype)
    if not bool(rounded.isfinite().all()):
        raise NumericalError(
            "a weight after the cut is not finite",
            next_step="raise the damping, or check the calibration text for extreme values",
        )
    return WeightCut(
        weight=rounded,
        keep=keep,
        error=output_error(before.double() - rounded.double(), gram),
        energy=output_error(before.double(), gram),
    )


def output_error(change: Float64[Tensor, "o i"], gram: Float64[Tensor, "... i i"]) -> float:
    """Return ``tr(Δ G Δᵀ)``, the squared output of weights Δ over the calibration tokens."""
    if gram.ndim > 2:
        return float(torch.einsum("ek,ekj,ej->", change, gram, change).clamp(min=0))
    return float(((change @ gram) * change).sum().clamp(min=0))


def check_amount(amount: Amount, size: int, what: str) -> None:
    """Raise unless an amount can be cut from rows of a size."""
    if isinstance(amount, Pattern):
        amount.check(size, what)
    elif not 0.0 <= amount < 1.0:
        raise InputError(f"sparsity {amount!r}", allowed="a fraction to remove in [0, 1)")


def check_projection(
    weight: Float[Tensor, "o i"], gram: Float64[Tensor, "i i"], amount: Amount
) -> None:
    """Raise unless weights, inputs and amount fit one another."""
    size = weight.shape[1]
    if gram.shape != (size, size):
        raise InputError(f"a gram of shape {tuple(gram.shape)}", allowed=f"({size}, {size})")
    check_amount(amount, size, "a projection's row")
    if not bool(weight.isfinite().all() and gram.isfinite().all()):
        raise NumericalError(
            "the weights of a projection, or its inputs on the calibration text, are not finite",
            next_step="run the model on this text and find the first layer that overflows",
        )
