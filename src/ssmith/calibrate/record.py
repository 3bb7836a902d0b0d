"""One layer's input and the output wanted of it, on sequences: for refits that moments cannot do.

Moments are of the states as they are; new input rows make other states. So the layer's input is
kept, O(steps · m), and the states are formed anew from it as often as needed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor, nn

from ssmith.calibrate.siso import sums_for
from ssmith.calibrate.stream import run_tapped
from ssmith.calibrate.sums import states_of
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

    def lacking(self, modes: Modes, D: Float64[Tensor, "m"]) -> Float64[Tensor, "b l m"]:
        """Return what the output of these modes and this D lacks, zero in padded steps."""
        u = self.u.double()
        return (self.y - D * u - respond(modes, u)) * self.valid.unsqueeze(-1)


@torch.no_grad()
def record(
    model: nn.Module, part: Sequences, name: str, *, reference: nn.Module, batch_size: int = 64
) -> list[Stretch]:
    """Record a layer's input, and the output that another model's layer gives.

    Args:
        model: gives the input; run in evaluation mode, it is not changed.
        part: sequences.
        name: of the layer.
        reference: gives the output wanted.
        batch_size: sequences per forward pass.

    Returns:
        All sequences, batch by batch.
    """
    stretches = []
    for index in torch.arange(len(part), device=part.x.device).split(batch_size):
        batch = part.take(index)
        u = run_tapped(model, batch, name)[name][0].cpu()
        y = run_tapped(reference, batch, name)[name][1].cpu()
        valid = torch.arange(u.shape[1]) < batch.lengths.cpu().unsqueeze(1)
        stretches.append(Stretch(u=u, y=y, valid=valid))
    return stretches


def respond(modes: Modes, u: Float64[Tensor, "b l m"]) -> Float64[Tensor, "b l m"]:
    """Return what a layer's states add to its output."""
    front, back = states_of(modes, u)
    both = [(front, modes.C)]
    if back is not None and modes.C_back is not None:
        both.append((back, modes.C_back))
    factor = 2.0 if modes.conjugate else 1.0
    if modes.channel is None:
        return factor * torch.stack([(x @ C).real for x, C in both]).sum(0)
    terms = factor * torch.stack([(x * C[:, 0]).real for x, C in both]).sum(0)
    return torch.zeros_like(u).index_add(2, modes.channel, terms)


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
        sums.add(item.u, item.valid, item.lacking(modes, D))
    return sums.result()


def only(modes: Modes, keep: Bool[Tensor, "s"]) -> Modes:
    """Return some of a layer's modes, as a layer of their own."""
    return replace(
        modes,
        A_bar=modes.A_bar[keep],
        B_bar=modes.B_bar[keep],
        C=modes.C[keep],
        C_back=None if modes.C_back is None else modes.C_back[keep],
        channel=None if modes.channel is None else modes.channel[keep],
        grid=(int(keep.sum()),),
        present=modes.present[keep],
    )
