"""Stand-ins: the smallest modules that behave like a sequence model."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ssmith.core.errors import UnsupportedError
from ssmith.core.sequences import Sequences


class Recurrence(nn.Module):
    """h_t = a ∘ h_{t-1} + B x_t, read out at the last valid step."""

    def __init__(self, channels=2, states=4, outputs=3, seed=0, scale=0.9):
        super().__init__()
        draw = torch.Generator().manual_seed(seed)
        self.a = nn.Parameter(scale * torch.rand(states, generator=draw))
        self.B = nn.Parameter(torch.randn(states, channels, generator=draw))
        self.C = nn.Parameter(torch.randn(outputs, states, generator=draw))
        self.drop = nn.Dropout(0.5)
        self.calls = 0

    def initial_state(self, batch_size: int) -> Tensor:
        return torch.zeros(batch_size, len(self.a), dtype=self.a.dtype)

    def step(self, x_t: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        state = self.a * state + x_t @ self.B.T
        return self.drop(state @ self.C.T), state

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        self.calls += 1
        length = x.shape[1]
        lengths = torch.full((len(x),), length) if lengths is None else lengths
        age = lengths[:, None] - 1 - torch.arange(length)
        weight = self.a ** age.clamp(min=0)[..., None] * (age >= 0)[..., None]
        return self.drop((weight * (x @ self.B.T)).sum(dim=1) @ self.C.T)


class Bidirectional(Recurrence):
    """A model that has no causal step."""

    def initial_state(self, batch_size: int) -> Tensor:
        raise UnsupportedError("bidirectional models need the whole sequence")

    def step(self, x_t: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        raise UnsupportedError("bidirectional models need the whole sequence")


class Drifting(Recurrence):
    """A model whose step disagrees with its full pass by exactly 0.25."""

    def step(self, x_t: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        out, state = super().step(x_t, state)
        return out + 0.25, state


def sequences(count=10, length=7, channels=2, classes=3, seed=0) -> Sequences:
    """Return random sequences of unequal lengths, with garbage in the padding."""
    draw = torch.Generator().manual_seed(seed)
    return Sequences(
        x=torch.randn(count, length, channels, generator=draw),
        lengths=torch.randint(1, length + 1, (count,), generator=draw),
        y=torch.randint(classes, (count,), generator=draw),
    )
