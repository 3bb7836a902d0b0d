"""A layer's read-out as a real linear regression: which feature belongs to which state.

``y_t = f·Re(C x_t) + D ⊙ u_t`` with ``f = 2`` for conjugate pairs is ``W z_t + D ⊙ u_t`` with the
real features ``z = (Re x, Im x)`` of every state, and of its time-reversed twin in a bidirectional
layer. A MIMO layer is one regression of all outputs on all features; a SISO layer is one regression
per channel. Both are laid out as groups, so that the same batched algebra serves them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Complex128, Float64, Int64
from torch import Tensor

from ssmith.core.layers import Modes


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where the states of a layer stand in its regressions.

    Axes: ``g`` groups, ``n`` places of states in a group, ``d`` directions of time, ``f = n·d·2``
    features, ``o`` outputs of a group. Features of one state are neighbours.

    Args:
        slots: flat index of the state in each place; −1 where a group has fewer states.
        channel: SISO layers: the channel of each group. None for MIMO layers.
        directions: 1, or 2 for bidirectional layers.
        factor: 2 for conjugate pairs, else 1.
        states: number of states ``s``.
    """

    slots: Int64[Tensor, "g n"]
    channel: Int64[Tensor, "g"] | None
    directions: int
    factor: float
    states: int

    @classmethod
    def of(cls, modes: Modes) -> Layout:
        """Return the layout of a layer's modes; SISO channels without any state have no group."""
        channel = None
        slots = torch.arange(modes.count).unsqueeze(0)
        if modes.channel is not None:
            channel, row, sizes = modes.channel.unique(return_inverse=True, return_counts=True)
            by_row = row.argsort(stable=True)
            first = sizes.cumsum(0) - sizes
            slots = torch.full((len(sizes), int(sizes.max()) if len(sizes) else 0), -1)
            slots[row[by_row], torch.arange(len(row)) - first[row[by_row]]] = by_row
        return cls(
            slots=slots,
            channel=channel,
            directions=1 if modes.C_back is None else 2,
            factor=2.0 if modes.conjugate else 1.0,
            states=modes.count,
        )

    @property
    def parts(self) -> int:
        """Features of one state: real and imaginary part, for each direction."""
        return 2 * self.directions

    def weight(
        self, C: Complex128[Tensor, "s o"], C_back: Complex128[Tensor, "s o"] | None
    ) -> Float64[Tensor, "g f o"]:
        """Return W, the read-out's weight on each feature; 0 in empty places."""
        both = torch.stack([C] if C_back is None else [C, C_back], dim=1)
        # Re(c x) = Re c · Re x − Im c · Im x
        pairs = self.factor * torch.view_as_real(both.conj().resolve_conj())
        rows = self.place(pairs.permute(0, 1, 3, 2))
        return rows.flatten(1, 3)

    def readout(
        self, weight: Float64[Tensor, "g f o"]
    ) -> tuple[Complex128[Tensor, "s o"], Complex128[Tensor, "s o"] | None]:
        """Return C and C_back; the inverse of `weight`."""
        g, n = self.slots.shape
        rows = weight.reshape(g, n, self.directions, 2, weight.shape[-1]) / self.factor
        flat = self.flat(torch.complex(rows[..., 0, :], -rows[..., 1, :]))
        return flat[:, 0], flat[:, 1] if self.directions == 2 else None

    def features(
        self, front: Complex128[Tensor, "t s"], back: Complex128[Tensor, "t s"] | None
    ) -> Float64[Tensor, "g t f"]:
        """Return the features of states, given as rows; 0 in empty places."""
        both = torch.stack([front] if back is None else [front, back], dim=-1)
        if self.channel is None:
            return torch.view_as_real(both).flatten(1).unsqueeze(0)
        rows = self.place(torch.view_as_real(both).transpose(0, 1))
        return rows.transpose(1, 2).flatten(2)

    def signals(self, u: Float64[Tensor, "t m"]) -> Float64[Tensor, "g t o"]:
        """Return the channels of a signal that stand at each group's outputs."""
        if self.channel is None:
            return u.unsqueeze(0)
        return u[:, self.channel].mT.unsqueeze(-1)

    def channels(self, values: Float64[Tensor, "g o"], width: int) -> Float64[Tensor, "m"]:
        """Lay one number per output of each group out over all channels; 0 where there is none."""
        if self.channel is None:
            return values[0]
        out = values.new_zeros(width)
        out[self.channel] = values[:, 0]
        return out

    def place(self, rows: Tensor) -> Tensor:
        """Lay rows of states, (s, …), out in the groups' places, (g, n, …); zeros in empty ones."""
        table = rows.new_zeros(*self.slots.shape, *rows.shape[1:])
        filled = self.slots >= 0
        table[filled] = rows[self.slots[filled]]
        return table

    def flat(self, table: Tensor) -> Tensor:
        """Return rows of states in their own order; the inverse of `place`."""
        filled = self.slots >= 0
        rows = table.new_zeros(self.states, *table.shape[2:])
        rows[self.slots[filled]] = table[filled]
        return rows


def real_gram(
    covariance: Complex128[Tensor, "g k j"], pseudo: Complex128[Tensor, "g k j"]
) -> Float64[Tensor, "g 2*k 2*j"]:
    """Return E[z zᵀ] of the real features, from E[x xᴴ] and E[x xᵀ] of the states.

    Both directions of a state are neighbours; each pair of states is a 2×2 block.
    """
    # x = a + ib: E[aaᵀ], E[abᵀ], E[baᵀ], E[bbᵀ] as the 2×2 block of each pair of states
    top = torch.stack([(covariance + pseudo).real, (pseudo - covariance).imag], dim=-1)
    bottom = torch.stack([(covariance + pseudo).imag, (covariance - pseudo).real], dim=-1)
    blocks = 0.5 * torch.stack([top, bottom], dim=-2)
    return blocks.permute(0, 1, 3, 2, 4).flatten(3, 4).flatten(1, 2)
