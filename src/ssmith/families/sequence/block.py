"""One residual block: norm, state space, activation, dropout."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Complex, Float, Int64
from torch import Tensor, nn

from ssmith.families.lti import Discrete, LTILayer
from ssmith.families.sequence.config import Activation


class Block(nn.Module):
    """``u + dropout(activation(ssm(norm(u))))``.

    ``"half_glu"`` is ``g ⊙ σ(W g)`` with ``g = gelu(y)``, ``"full_glu"`` ``(V g) ⊙ σ(W g)``.
    """

    def __init__(self, ssm: LTILayer, activation: Activation, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(ssm.width)
        self.ssm = ssm
        outputs = {"gelu": 0, "half_glu": 1, "full_glu": 2}[activation] * ssm.width
        self.mix = nn.Linear(ssm.width, outputs) if outputs else None
        self.activation = activation
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        u: Float[Tensor, "b l m"],
        valid: Bool[Tensor, "b l 1"] | None,
        widths: Float[Tensor, "b l"] | None = None,
    ) -> Float[Tensor, "b l m"]:
        """Run over whole sequences; ``valid`` is False at padded steps."""
        cleared = _clear(self.norm(u), valid)
        given = {} if widths is None else {"widths": widths}
        return u + self._after(self.ssm(cleared, **given))

    def scan(
        self,
        u: Float[Tensor, "b l m"],
        state: Complex[Tensor, "b s"],
        lengths: Int64[Tensor, "b"],
        valid: Bool[Tensor, "b l 1"],
        discrete: Discrete,
        *,
        widths: Float[Tensor, "b l"] | None = None,
    ) -> tuple[Float[Tensor, "b l m"], Complex[Tensor, "b s"]]:
        """Run over sequences from a state, and return the state to continue from."""
        cleared = _clear(self.norm(u), valid)
        if widths is not None:
            y, state = self.ssm.varied(cleared, widths, state, lengths)
        else:
            y, state = self.ssm.scan(cleared, state, lengths, discrete)
        return u + self._after(y), state

    def step(
        self,
        u: Float[Tensor, "b m"],
        state: Complex[Tensor, "b s"],
        discrete: Discrete,
        widths: Float[Tensor, "b"] | None = None,
        out: Complex[Tensor, "b s"] | None = None,
    ) -> tuple[Float[Tensor, "b m"], Complex[Tensor, "b s"]]:
        """Run one time step; ``out`` becomes the new state where steps are as wide as usual."""
        if widths is not None:
            one, state = self.ssm.varied(self.norm(u)[:, None], widths[:, None], state)
            return u + self._after(one[:, 0]), state
        y, state = self.ssm.step(self.norm(u), state, discrete, out)
        return u + self._after(y), state

    def _after(self, y: Float[Tensor, "*b m"]) -> Float[Tensor, "*b m"]:
        hidden = self._drop(nn.functional.gelu(y))
        if self.mix is None:
            return hidden
        mixed = self.mix(hidden)
        if self.activation == "half_glu":
            return self._drop(hidden * torch.sigmoid(mixed))
        return self._drop(nn.functional.glu(mixed, dim=-1))

    def _drop(self, hidden: Float[Tensor, "*b m"]) -> Float[Tensor, "*b m"]:
        dropped: Tensor = self.dropout(hidden)
        return dropped


def _clear(u: Float[Tensor, "b l m"], valid: Bool[Tensor, "b l 1"] | None) -> Tensor:
    """Zero padded steps, so that neither direction of time sees them."""
    return u if valid is None else u * valid
