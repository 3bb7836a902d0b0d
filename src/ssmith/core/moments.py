"""Moments: what a layer's states do on average, all that refitting its read-out needs to know."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float64
from torch import Tensor

Source = Literal["data", "white"]


@dataclass(frozen=True, kw_only=True)
class Moments:
    """Mean products, over time and sequences, of a layer's features, input and missing output.

    ``z`` are the layer's real features (see `core.layout.Layout`), ``u`` its input at the outputs'
    channels, and ``e`` what its output lacks: the output it should have minus the one it has.
    ``e`` is zero unless the layer is to imitate another model's.

    Args:
        layer: dotted name of the layer.
        source: ``"data"`` for sequences, ``"white"`` for white noise of unit variance.
        steps: valid time steps averaged over; 0 for white noise.
        gram: E[z zᵀ].
        error: E[z e].
        error_energy: E[e²].
        input: E[z u].
        input_energy: E[u²].
        input_error: E[u e].
        sensitivity: E[g gᵀ], g the gradient of the model's outputs with respect to the layer's;
            None where it was not measured.
    """

    layer: str
    source: Source
    steps: int
    gram: Float64[Tensor, "g f f"]
    error: Float64[Tensor, "g f o"]
    error_energy: Float64[Tensor, "g o"]
    input: Float64[Tensor, "g f i"]
    input_energy: Float64[Tensor, "g i"]
    input_error: Float64[Tensor, "g i"]
    sensitivity: Float64[Tensor, "g o o"] | None = None
