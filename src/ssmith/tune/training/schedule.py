"""How a learning rate moves: warm-up, then linear, cosine or constant."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Shape = Literal["linear", "cosine", "constant"]


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """The rates of a whole run.

    ``rising`` counts the steps with a linearly rising rate, the last of them at the peak; ``final``
    is what it falls to after the last step, as a share of the peak.
    """

    steps: int
    rising: int
    shape: Shape
    final: float = 0.0

    def rate(self, peak: float, step: int) -> float:
        """Return the rate at a step, counted from 0."""
        if step < self.rising:
            return peak * ((step + 1) / self.rising)
        if self.shape == "constant":
            return peak
        falling = max(1, self.steps - self.rising)
        if self.shape == "linear":
            left = 1.0 - min(1.0, (step - self.rising) / falling)
        else:
            left = 0.5 * (1.0 + math.cos(math.pi * (step - self.rising) / falling))
        return peak * (self.final + (1.0 - self.final) * left)
