"""An output map as pruning sees it: the linear layer that reads heads or neurons, and its input."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class OutputParts:
    """What an output map is given in one batch; ``residual`` is the stream its block adds to.

    ``lacking`` is what the stream lacks behind it, where that is asked for, as the map's output.
    """

    x: Float[Tensor, "b l e"]
    valid: Bool[Tensor, "b l"] | None = None
    residual: Float[Tensor, "b l m"] | None = None
    lacking: Float[Tensor, "b l m"] | None = None


@dataclass(frozen=True)
class OutputMap:
    """A linear layer by its dotted name."""

    name: str
    module: nn.Linear

    @property
    def output_map(self) -> nn.Linear:
        """The layer itself."""
        return self.module

    def parts(
        self, given: Float[Tensor, "b l e"], valid: Bool[Tensor, "b l"] | None = None
    ) -> OutputParts:
        """Return what flows into it, as stages read it."""
        return OutputParts(x=given, valid=valid)

    def features(self, parts: OutputParts) -> Float[Tensor, "b l e"]:
        """Return what the map is given."""
        return parts.x

    def activations(self, parts: OutputParts) -> Float[Tensor, "b l e"]:
        """Return what its units are: here what the map is given."""
        return parts.x
