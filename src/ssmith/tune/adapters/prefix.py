"""Prefix tuning for state space models: virtual inputs that every layer runs through first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ssmith.core.checks import check_integer
from ssmith.families.parts.hooks import Hooks
from ssmith.tune.adapters.method import MixerMethod, kaiming
from ssmith.tune.adapters.part import MixerPart, master_dtype


@dataclass(frozen=True, kw_only=True)
class PrefixTuning(MixerMethod):
    """v learned inputs of every mixer, run through before the first real one.

    Their outputs are never seen: what stays is the state they leave, in the convolution and in
    the scan. They run once per forward pass, whatever the size of the batch.

    Args:
        tokens: v ≥ 1.
        hidden: width of the two-layer network that produces them while training, ≥ 1; None to
            learn them directly.

    Source: Prefix-Tuning (arXiv 2101.00190), in its form for state space models (arXiv 2410.09016).
    Differs: there are no keys and values to prepend here; the prefix is an input.
    """

    method: ClassVar[str] = "prefix"
    key: ClassVar[str] = "prefix"
    tokens: int = 16
    hidden: int | None = None

    def __post_init__(self) -> None:
        check_integer("tokens", self.tokens, at_least=1)
        if self.hidden is not None:
            check_integer("hidden", self.hidden, at_least=1)

    def part(self, name: str, mixer: Any, draw: torch.Generator) -> PrefixPart:
        return PrefixPart(mixer, self, draw)


class PrefixPart(MixerPart):
    """The virtual inputs of one mixer."""

    label = "prefix"
    matrices = ("into", "out_of")
    cannot_merge = "a model's weights hold no inputs"

    def __init__(self, mixer: Any, config: PrefixTuning, draw: torch.Generator) -> None:
        super().__init__()
        width, like = mixer.hidden_size, mixer.A_log
        drawn = torch.randn(config.tokens, width, generator=draw, dtype=torch.float64)
        self.inputs = nn.Parameter(drawn.to(dtype=master_dtype(like), device=like.device))
        if config.hidden is not None:
            self.into = nn.Parameter(kaiming(config.hidden, width, like, draw))
            self.out_of = nn.Parameter(kaiming(width, config.hidden, like, draw))

    def virtual(self) -> Float[Tensor, "v m"]:
        """Return the virtual inputs."""
        if "into" not in self._parameters:
            return self.inputs
        return torch.tanh(self.inputs @ self.into.mT) @ self.out_of.mT

    def change(self) -> Hooks:
        return Hooks(prefix=self.virtual())
