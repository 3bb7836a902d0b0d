"""Initial-state tuning: the state before the first step is learned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn

from ssmith.core.errors import UnsupportedError
from ssmith.families.hf.facts import state_shape
from ssmith.families.parts.hooks import Hooks
from ssmith.tune.adapters.method import MixerMethod
from ssmith.tune.adapters.part import LTIPart, MixerPart, Placement, master_dtype
from ssmith.tune.adapters.survey import Survey


@dataclass(frozen=True, kw_only=True)
class InitialState(MixerMethod):
    """``h₀`` learned in every layer, zero at the start; it fades as the recurrence forgets.

    Takes part wherever a sequence begins: in a forward pass of any length, chunk by chunk, and in
    the prefill of generation.

    Source: State-offset Tuning (arXiv 2503.03499), its rival "initial state".
    Differs: one scan with a start state, where the released code runs one scan for each state;
        S5 and S4D layers, which run forward in time only, are ours.
    """

    method: ClassVar[str] = "initial-state"
    key: ClassVar[str] = "initial_state"
    known: ClassVar[tuple[str, ...]] = ("mamba", "mamba2", "zamba")

    def sites(self, survey: Survey, draw: torch.Generator) -> list[Placement]:
        if survey.lti and not survey.mixers:
            return [_lti_site(name, layer) for name, layer in survey.lti.items()]
        return super().sites(survey, draw)

    def part(self, name: str, mixer: Any, draw: torch.Generator) -> InitialStatePart:
        return InitialStatePart(state_shape(mixer), mixer.A_log)


class InitialStatePart(MixerPart):
    """h₀ of one mixer."""

    label = "initial-state"
    by_row = True
    constant = True
    cannot_merge = "a model's weights hold no initial state"

    def __init__(self, shape: tuple[int, ...], like: Tensor) -> None:
        super().__init__()
        self.h = nn.Parameter(torch.zeros(shape, dtype=master_dtype(like), device=like.device))

    def change(self) -> Hooks:
        return Hooks(initial_state=self.h)


class LTIInitialStatePart(LTIPart):
    """h₀ of one S5 or S4D layer that runs forward in time only, real and imaginary parts."""

    label = "initial-state"
    by_row = True
    cannot_merge = "a model's weights hold no initial state"

    def __init__(self, layer: Any) -> None:
        super().__init__()
        like = layer.get_parameter("D")
        zeros = torch.zeros(layer.n_states, 2, dtype=master_dtype(like), device=like.device)
        self.h: Float[Tensor, "s 2"] = nn.Parameter(zeros)

    def start(self) -> Complex[Tensor, "s"]:
        return torch.view_as_complex(self.h)


def _lti_site(name: str, layer: Any) -> Placement:
    if layer.options.bidirectional:
        raise UnsupportedError(
            f"initial-state on {name}: a bidirectional layer has no first step",
            allowed="layers that run forward in time only",
            next_step="use state-offset-y",
        )
    return Placement(owner=name, key="initial_state", part=LTIInitialStatePart(layer))
