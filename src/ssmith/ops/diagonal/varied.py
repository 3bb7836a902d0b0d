"""The diagonal scan whose A_bar is another at every step and in every row."""

from __future__ import annotations

import torch
from jaxtyping import Complex
from torch import Tensor


def varied_scan(
    A_bar: Complex[Tensor, "b l s"],
    Bu: Complex[Tensor, "b l s"],
    x0: Complex[Tensor, "b s"] | None = None,
) -> Complex[Tensor, "b l s"]:
    """Return all states of ``x_t = A_bar_t x_{t−1} + Bu_t``, in log₂ l passes over the length.

    Each pass joins every step with the one 1, 2, 4, … before it.

    Source: Hillis & Steele (1986), "Data parallel algorithms", the prefix sum.
    """
    states, decay, reach = Bu, A_bar, 1
    if x0 is not None and Bu.shape[1]:
        states = torch.cat([Bu[:, :1] + A_bar[:, :1] * x0[:, None], Bu[:, 1:]], dim=1)
    while reach < Bu.shape[1]:
        earlier = states[:, :-reach]
        joined = torch.addcmul(states[:, reach:], decay[:, reach:], earlier)
        states = torch.cat([states[:, :reach], joined], dim=1)
        decay = torch.cat([decay[:, :reach], decay[:, reach:] * decay[:, :-reach]], dim=1)
        reach *= 2
    return states
