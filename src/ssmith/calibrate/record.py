"""One layer's input and the output wanted of it, on sequences: for refits that moments cannot do.

Moments are of the states as they are; new input rows make other states. So the layer's input is
kept, O(steps · m), and the states are formed anew from it as often as needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from ssmith.calibrate.siso import sums_for
from ssmith.calibrate.sums import States, StateSums, states_of
from ssmith.core.gramian import real_rows
from ssmith.core.layers import Modes
from ssmith.core.moments import Moments


@dataclass(frozen=True, kw_only=True)
class Recording:
    """Some sequences as one layer sees them, in the model's own type.

    ``wanted`` is the output wanted of it; ``valid`` is True at the steps that count; ``widths`` are
    those of uneven steps.
    """

    u: Float[Tensor, "b l m"]
    y: Float[Tensor, "b l m"]
    wanted: Float[Tensor, "b l m"]
    valid: Bool[Tensor, "b l"]
    widths: Float[Tensor, "b l"] | None = None

    def double(self) -> Recording:
        """Return a copy in double precision."""
        return replace(self, u=self.u.double(), wanted=self.wanted.double())

    def take(self, index: Int64[Tensor, "i"]) -> Recording:
        """Return the chosen sequences."""
        return Recording(
            u=self.u[index],
            y=self.y[index],
            wanted=self.wanted[index],
            valid=self.valid[index],
            widths=None if self.widths is None else self.widths[index],
        )

    def missing(self) -> Float64[Tensor, "b l m"]:
        """Return what the layer's own output lacks."""
        return self.wanted.double() - self.y.double()

    def residual(
        self, modes: Modes, D: Float64[Tensor, "m"], states: States | None = None
    ) -> Float64[Tensor, "b l m"]:
        """Return what the output of these modes and this D lacks, zero in padded steps.

        ``states`` are those of these modes on this input, where they are known already.
        """
        u = self.u.double()
        if states is None:
            states = states_of(modes, u, self.widths)
        own = read(modes, states, u.shape[-1])
        return (self.wanted - D * u - own) * self.valid.unsqueeze(-1)


def respond(
    modes: Modes, u: Float64[Tensor, "b l m"], widths: Float[Tensor, "b l"] | None = None
) -> Float64[Tensor, "b l m"]:
    """Return what a layer's states add to its output."""
    return read(modes, states_of(modes, u, widths), u.shape[-1])


def read(modes: Modes, states: States, width: int) -> Float64[Tensor, "b l m"]:
    """Return what states, from `states_of`, add to the output of a layer of some width."""
    front, back = states
    both = [(front, modes.C)]
    if back is not None and modes.C_back is not None:
        both.append((back, modes.C_back))
    factor = 2.0 if modes.conjugate else 1.0
    if modes.channel is None:
        # Re(x C) = Re x · Re C − Im x · Im C, of states that lie as (Re, Im) already
        terms = [torch.view_as_real(x).flatten(-2) @ real_rows(C.conj()) for x, C in both]
        return factor * (terms[0] if len(terms) == 1 else terms[0] + terms[1])
    terms = [(x * C[:, 0]).real for x, C in both]
    total = factor * (terms[0] if len(terms) == 1 else terms[0] + terms[1])
    return total.new_zeros(*total.shape[:2], width).index_add(2, modes.channel, total)


def moments_of_record(
    modes: Modes, D: Float64[Tensor, "m"], recordings: Sequence[Recording]
) -> Moments:
    """Return the moments of a layer, as it is now, on what was recorded."""
    sums = sums_for(modes)
    for item in recordings:
        if not isinstance(sums, StateSums):
            sums.add(item.u, item.valid, item.residual(modes, D), item.widths)
            continue
        for index in sums.blocks(item.u):
            some = item.take(index).double()
            states = states_of(modes, some.u, some.widths)
            sums.add_states(states, some.u, some.valid, some.residual(modes, D, states))
    return sums.result()


def moments_between(modes: Modes, recordings: Sequence[Recording]) -> Moments:
    """Return the moments of a layer as it ran, from correlations where they suffice."""
    sums = sums_for(modes)
    for item in recordings:
        sums.add(item.u, item.valid, item.missing(), item.widths)
    return sums.result()
