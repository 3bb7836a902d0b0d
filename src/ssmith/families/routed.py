"""A mixture of experts as pruning sees it: which experts tokens are sent to, what these give."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from ssmith.core.routed import Routed
from ssmith.families.output import OutputParts


@dataclass(frozen=True)
class ExpertLayer:
    """A router and its experts; ``router`` is its name in the layer."""

    name: str
    module: nn.Module
    router: str

    def parts(
        self, given: Float[Tensor, "b l m"], valid: Bool[Tensor, "b l"] | None = None
    ) -> OutputParts:
        """Return what flows into it, as stages read it."""
        return OutputParts(x=given, valid=valid)

    def routed(self, parts: OutputParts) -> Routed:
        """Return where the tokens that count go, and how much each expert gives them."""
        layer: Any = self.module
        inner, weights, chosen = self._sent(parts)
        out = getattr(layer, "fc2_latent_proj", None)
        # One expert for each token, with weight 1: whatever they are made of, this is what it says.
        alone = chosen.reshape(-1, 1)
        given = layer.experts(
            inner.repeat_interleave(chosen.shape[1], 0), alone, torch.ones_like(alone).to(inner)
        )
        if isinstance(out, nn.Linear):
            given = functional.linear(given, out.weight)
        return Routed(
            experts=layer.experts.num_experts, chosen=chosen, weights=weights,
            norms=given.norm(dim=-1).view_as(chosen),
        )  # fmt: skip

    def neurons(
        self, parts: OutputParts
    ) -> Iterator[tuple[int, Float[Tensor, "t"], Float[Tensor, "t i"]]]:
        """Yield the experts that are sent tokens, how much each token counts, and their neurons."""
        experts: Any = self.module.experts
        inner, weights, chosen = self._sent(parts)
        for number in range(experts.num_experts):
            place, turn = (chosen == number).nonzero(as_tuple=True)
            given = inner[place]
            if not len(given):
                continue
            if hasattr(experts, "gate_up_proj"):
                gate, up = functional.linear(given, experts.gate_up_proj[number]).chunk(2, -1)
                found = experts.act_fn(gate) * up
            else:
                found = experts.act_fn(functional.linear(given, experts.up_proj[number]))
            yield number, weights[place, turn], found

    def _sent(self, parts: OutputParts) -> tuple[Tensor, Tensor, Tensor]:
        """Return what experts are given of the tokens that count, their weights and experts."""
        layer: Any = self.module
        tokens = parts.x.flatten(0, 1) if parts.valid is None else parts.x[parts.valid]
        _, weights, chosen = layer.get_submodule(self.router)(tokens)
        into = getattr(layer, "fc1_latent_proj", None)
        return (tokens if into is None else into(tokens)), weights, chosen
