"""How a learning rate moves: warm-up, then linear, cosine or constant."""

from __future__ import annotations

import math


def rate_factor(step: int, total: int, warmup: float, schedule: str) -> float:
    """Return the factor of the learning rate at a step.

    Args:
        step: optimiser steps done, ≥ 0.
        total: of the whole run, ≥ 1.
        warmup: fraction of all steps with a linearly rising rate, in [0, 1).
        schedule: ``"linear"`` or ``"cosine"`` down to 0 after the last step, or ``"constant"``.

    Returns:
        A number in [0, 1].
    """
    rising = round(warmup * total)
    if step < rising:
        return (step + 1) / (rising + 1)
    if schedule == "constant":
        return 1.0
    done = min(1.0, (step - rising) / max(1, total - rising))
    return 1.0 - done if schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * done))
