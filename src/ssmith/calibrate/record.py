"""One layer's input and the output wanted of it, on sequences: for refits that moments cannot do.

Moments are of the states as they are; new input rows make other states. So the layer's input is
kept, O(steps · m), and the states are formed anew from it as often as needed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor, nn

from ssmith.calibrate.siso import sums_for
from ssmith.calibrate.stream import LayerOutputs, batches, outputs_on, run_tapped
from ssmith.calibrate.sums import States, StateSums, states_of
from ssmith.core.gramian import real_rows
from ssmith.core.layers import Modes
from ssmith.core.moments import Moments
from ssmith.core.sequences import Sequences


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """Some sequences as one layer sees them, in the model's own type.

    Args:
        u: the layer's input, zero in padded steps.
        y: the output wanted of it.
        valid: True at the steps that count.
    """

    u: Float[Tensor, "b l m"]
    y: Float[Tensor, "b l m"]
    valid: Bool[Tensor, "b l"]

    def double(self) -> Stretch:
        """Return a copy in double precision."""
        return replace(self, u=self.u.double(), y=self.y.double())

    def take(self, index: Int64[Tensor, "i"]) -> Stretch:
        """Return the chosen sequences."""
        return Stretch(u=self.u[index], y=self.y[index], valid=self.valid[index])

    def lacking(
        self, modes: Modes, D: Float64[Tensor, "m"], states: States | None = None
    ) -> Float64[Tensor, "b l m"]:
        """Return what the output of these modes and this D lacks, zero in padded steps.

        Args:
            modes: of the layer.
            D: its direct part.
            states: of these modes on this input, where they are known already.

        Returns:
            The output wanted minus that output.
        """
        u = self.u.double()
        own = read(modes, states_of(modes, u) if states is None else states, u.shape[-1])
        return (self.y - D * u - own) * self.valid.unsqueeze(-1)


@torch.no_grad()
def record(
    model: nn.Module,
    part: Sequences,
    name: str,
    *,
    reference: nn.Module | LayerOutputs,
    batch_size: int = 64,
) -> list[Stretch]:
    """Record a layer's input, and the output that another model's layer gives.

    Args:
        model: gives the input; run in evaluation mode, it is not changed.
        part: sequences.
        name: of the layer.
        reference: gives the output wanted, or gave it on these very sequences (`outputs_of`).
        batch_size: sequences per forward pass.

    Returns:
        All sequences, batch by batch, in rising order of their lengths.
    """
    stretches = []
    for place, batch in enumerate(batches(part, batch_size)):
        u = run_tapped(model, batch, name)[name][0].cpu()
        y = outputs_on(reference, place, batch, name)[name].cpu()
        valid = torch.arange(u.shape[1]) < batch.lengths.cpu().unsqueeze(1)
        stretches.append(Stretch(u=u, y=y, valid=valid))
    return stretches


def respond(modes: Modes, u: Float64[Tensor, "b l m"]) -> Float64[Tensor, "b l m"]:
    """Return what a layer's states add to its output."""
    return read(modes, states_of(modes, u), u.shape[-1])


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


def moments_of_record(modes: Modes, D: Float64[Tensor, "m"], stretches: list[Stretch]) -> Moments:
    """Return the moments of a layer, as it is now, on what was recorded.

    Args:
        modes: the layer.
        D: its direct part.
        stretches: from `record`.

    Returns:
        Its moments, with what its output lacks.
    """
    sums = sums_for(modes)
    for item in stretches:
        if not isinstance(sums, StateSums):
            sums.add(item.u, item.valid, item.lacking(modes, D))
            continue
        for index in sums.blocks(item.u):
            some = item.take(index).double()
            states = states_of(modes, some.u)
            sums.add_states(states, some.u, some.valid, some.lacking(modes, D, states))
    return sums.result()
