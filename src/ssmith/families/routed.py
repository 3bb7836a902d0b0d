"""A mixture of experts as pruning sees it: which experts tokens are sent to, what these give."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

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
        tokens = parts.x.flatten(0, 1) if parts.valid is None else parts.x[parts.valid]
        _, weights, chosen = layer.get_submodule(self.router)(tokens)
        into, out = (getattr(layer, name, None) for name in ("fc1_latent_proj", "fc2_latent_proj"))
        inner = tokens if into is None else into(tokens)
        # One expert for each token, with weight 1: whatever they are made of, this is what it says.
        alone = chosen.reshape(-1, 1)
        given = layer.experts(
            inner.repeat_interleave(chosen.shape[1], 0), alone, torch.ones_like(alone).to(inner)
        )
        if isinstance(out, nn.Linear):
            given = nn.functional.linear(given, out.weight)
        return Routed(
            experts=layer.experts.num_experts, chosen=chosen, weights=weights,
            norms=given.norm(dim=-1).view_as(chosen),
        )  # fmt: skip
