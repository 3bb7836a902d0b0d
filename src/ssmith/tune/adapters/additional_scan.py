"""Additional-scan tuning: every channel gets a few further states, all of them trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import nn

from ssmith.core.checks import check_choice, check_integer
from ssmith.core.errors import UnsupportedError
from ssmith.families.parts.hooks import ExtraStates, Hooks
from ssmith.tune.adapters.method import MixerMethod, kaiming
from ssmith.tune.adapters.part import MixerPart, master_dtype


@dataclass(frozen=True, kw_only=True)
class AdditionalScan(MixerMethod):
    """k further states a channel: their decay, and their rows of B and C, of which C starts at 0.

    Args:
        states: how many, ≥ 1.
        initialisation: ``"sound"`` continues the table of decays, A = −(n+1) … −(n+k);
            ``"official"`` sets A_log to n, the table's last entry *without* its logarithm, so
            that A = −eⁿ: memoryless states whose decay never gets a gradient.

    Source: State-offset Tuning (arXiv 2503.03499), its rival "additional-scan", 8 states.
    Differs: the sound initialisation is the default; rows of the further states skip
        Falcon-Mamba's norms of B and C, which would have no gradient at C = 0.
    """

    method: ClassVar[str] = "additional-scan"
    key: ClassVar[str] = "additional_scan"
    states: int = 8
    initialisation: Literal["sound", "official"] = "sound"

    def __post_init__(self) -> None:
        check_integer("states", self.states, at_least=1)
        check_choice("initialisation", self.initialisation, ("sound", "official"))

    def part(self, name: str, mixer: Any, draw: torch.Generator) -> ExtraStatesPart:
        if mixer.A_log.ndim != 2:
            raise UnsupportedError(
                f"additional-scan on {name}: the decay of a Mamba-2 head is shared by all its "
                "states, so further ones have none of their own",
                allowed="Mamba and Falcon-Mamba mixers",
                next_step="use state-offset-h or initial-state",
            )
        return ExtraStatesPart(mixer, self, draw)


class ExtraStatesPart(MixerPart):
    """The further states of one mixer."""

    label = "additional-scan"
    matrices = ("B", "C")
    cannot_merge = "further states would make all layers' sizes, the cache's and the file's others"

    def __init__(self, mixer: Any, config: AdditionalScan, draw: torch.Generator) -> None:
        super().__init__()
        (e, n), k, like = mixer.A_log.shape, config.states, mixer.A_log
        settings: Any = {"dtype": master_dtype(like), "device": like.device}
        self.official = config.initialisation == "official"
        if self.official:
            decay = torch.full((k,), float(n), **settings)
        else:
            decay = torch.arange(n + 1, n + k + 1, **settings).log()
        self.A_log = nn.Parameter(decay.repeat(e, 1))
        self.B = nn.Parameter(kaiming(k, e, like, draw))
        self.C = nn.Parameter(torch.zeros(k, e, **settings))

    def change(self) -> Hooks:
        return Hooks(extra=ExtraStates(A_log=self.A_log, B=self.B, C=self.C))

    def inert(self) -> tuple[str, ...]:
        # exp(−Δ·eⁿ) underflows for every Δ above 104·e⁻ⁿ, and its gradient with it.
        return ("A_log",) if self.official else ()
