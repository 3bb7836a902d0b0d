"""The diagonal scan as its definition reads: one step after the other."""

from __future__ import annotations

import torch
from jaxtyping import Complex
from torch import Tensor


def diagonal_scan(
    A_bar: Complex[Tensor, "s"],
    Bu: Complex[Tensor, "b l s"],
    x0: Complex[Tensor, "b s"] | None = None,
    *,
    reverse: bool = False,
) -> tuple[Complex[Tensor, "b l s"], Complex[Tensor, "b s"]]:
    """Run ``x_t = A_bar x_{t−1} + Bu_t``, or ``x_t = A_bar x_{t+1} + Bu_t`` in reverse.

    Returns all states, and the state after the last step that was run: in reverse that at the first
    time step, without steps ``x0`` (zero if None).
    """
    b, length, s = Bu.shape
    state = Bu.new_zeros(b, s) if x0 is None else x0
    states: list[Tensor] = []
    order = reversed(range(length)) if reverse else range(length)
    for t in order:
        state = A_bar * state + Bu[:, t]
        states.append(state)
    if reverse:
        states.reverse()
    stacked = torch.stack(states, dim=1) if states else Bu.new_zeros(b, 0, s)
    return stacked, state
