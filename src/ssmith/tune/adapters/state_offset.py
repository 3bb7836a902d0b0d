"""State-offset tuning: a constant added to the state, or to the output, in the read-out only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ssmith.core.checks import check_choice, check_integer
from ssmith.core.errors import InputError, UnsupportedError
from ssmith.families.hf.facts import state_shape
from ssmith.families.parts.hooks import Hooks
from ssmith.tune.adapters.method import MixerMethod, kaiming
from ssmith.tune.adapters.part import LTIPart, MixerPart, Placement, master_dtype
from ssmith.tune.adapters.survey import Survey

Form = Literal["h", "y", "both"]


@dataclass(frozen=True, kw_only=True)
class StateOffset(MixerMethod):
    """``y_t = C_t·(h_t + h′) + D·x_t + y′``: h′, y′ or both, constant over time, before the gate.

    Starts as an exact no-op. Never fed back into the recurrence, so it does not fade.

    Args:
        form: ``"h"``, ``"y"`` or ``"both"``. S5 and S4D layers have ``"y"`` only: their C is
            constant, so C·h′ is a constant too.
        rank: h′ = U·V of this rank, ≥ 1; None for a full h′. Advised for Mamba-2, whose h′ is
            large.
        r_ratio: q ≥ 1: h′ is folded from (e/q, n·q), so that a rank above n has a use.

    Source: State-offset Tuning (arXiv 2503.03499), forms (h) and (y).
    Differs: kept in float32 whatever the model's type; both forms together and Mamba-2, S4D, S5
        are ours; U is zero and V drawn as in the released code, whose dropout does nothing.
    """

    method: ClassVar[str] = "state-offset"
    named: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "state-offset-h": {"form": "h"},
        "state-offset-y": {"form": "y"},
        "state-offset-hy": {"form": "both"},
        "state-offset-h-lowrank": {"form": "h", "rank": 8},
    }
    key: ClassVar[str] = "state_offset"
    known: ClassVar[tuple[str, ...]] = ("mamba", "mamba2", "zamba")
    form: Form = "h"
    rank: int | None = None
    r_ratio: int = 1

    def __post_init__(self) -> None:
        check_choice("form", self.form, ("h", "y", "both"))
        check_integer("r_ratio", self.r_ratio, at_least=1)
        if self.rank is not None:
            check_integer("rank", self.rank, at_least=1)
            if self.form == "y":
                raise InputError("rank is set for form 'y'", allowed="rank with 'h' or 'both'")

    def label(self) -> str:
        return f"state-offset-{self.form}" + ("-lowrank" if self.rank else "")

    def sites(self, survey: Survey, draw: torch.Generator) -> list[Placement]:
        if survey.lti and not survey.mixers:
            return self._lti_sites(survey)
        return super().sites(survey, draw)

    def part(self, name: str, mixer: Any, draw: torch.Generator) -> StateOffsetPart:
        return StateOffsetPart(state_shape(mixer), self, mixer.A_log, draw)

    def _lti_sites(self, survey: Survey) -> list[Placement]:
        if self.form != "y":
            raise UnsupportedError(
                f"form {self.form!r} on S5 or S4D layers: their C is constant, so C·h′ is the same "
                "at every step and form 'y' says all of it",
                allowed="form 'y'",
                next_step="use StateOffset(form='y'), --method state-offset-y",
            )
        return [
            Placement(owner=name, key="state_offset", part=OutputOffsetPart(layer))
            for name, layer in survey.lti.items()
        ]


class StateOffsetPart(MixerPart):
    """h′ and y′ of one mixer, of a state's shape; ``like`` gives device and precision."""

    label = "state-offset-h"
    matrices = ("h", "U", "V")
    by_row = True
    cannot_merge = "no bias stands between the scan and the gate to hold an offset"

    def __init__(
        self, shape: tuple[int, ...], config: StateOffset, like: Tensor, draw: torch.Generator
    ) -> None:
        super().__init__()
        self.shape = shape
        self.constant = config.rank is None
        channels, n = prod(shape[:-1]), shape[-1]
        settings: Any = {"dtype": master_dtype(like), "device": like.device}
        if config.form != "y" and config.rank is None:
            self.h = nn.Parameter(torch.zeros(shape, **settings))
        elif config.form != "y" and config.rank is not None:
            q = config.r_ratio
            if channels % q:
                raise InputError(f"r_ratio is {q}", allowed=f"a divisor of {channels} channels")
            self.U = nn.Parameter(torch.zeros(channels // q, config.rank, **settings))
            self.V = nn.Parameter(kaiming(config.rank, n * q, like, draw))
        if config.form != "h":
            self.y = nn.Parameter(torch.zeros(channels, **settings))

    def offset(self) -> Float[Tensor, "..."] | None:
        """Return h′, or None if there is none."""
        if "h" in self._parameters:
            return self.h
        if "U" in self._parameters:
            return (self.U @ self.V).reshape(self.shape)
        return None

    def change(self) -> Hooks:
        y = self.y if "y" in self._parameters else None
        return Hooks(state_offset=self.offset(), output_offset=y)

    def held(self) -> dict[str, Tensor]:
        found = {"state_offset": self.offset(), "output_offset": self._parameters.get("y")}
        return {name: value.detach() for name, value in found.items() if value is not None}

    def groups(self) -> dict[str, str]:
        own = {"U": "state-offset-h-lowrank", "V": "state-offset-h-lowrank", "y": "state-offset-y"}
        return {name: own.get(name, group) for name, group in super().groups().items()}


class OutputOffsetPart(LTIPart):
    """y′ of one S5 or S4D layer.

    Args:
        layer: the layer.
    """

    label = "state-offset-y"
    by_row = True
    cannot_merge = "an S5 or S4D layer has no bias that could hold an offset"

    def __init__(self, layer: Any) -> None:
        super().__init__()
        like = layer.get_parameter("D")
        zeros = torch.zeros(layer.width, dtype=master_dtype(like), device=like.device)
        self.y = nn.Parameter(zeros)

    def offset(self) -> Float[Tensor, "m"]:
        return self.y
