"""Sparse dimension tuning: a warm-up finds which channels and states matter, the rest freezes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from ssmith.core.checks import check_integer, check_number
from ssmith.core.errors import InputError, UnsupportedError
from ssmith.families.hf.projections import row_parts
from ssmith.tune.adapters.method import MixerMethod, WarmedMethod
from ssmith.tune.adapters.part import Placement, TensorPart, master_dtype
from ssmith.tune.adapters.pruned import kept
from ssmith.tune.adapters.survey import Survey


@dataclass(frozen=True, kw_only=True)
class SDT(MixerMethod, WarmedMethod):
    """Trains A_log at few channels and states, and the rows of B and C at those channels.

    It begins as a warm-up that trains all of A_log. `select_` then ranks channels by the sum of
    their squared updates, and states within a chosen channel by theirs, resets A_log, and leaves
    only the chosen numbers trainable. Combine it with `LoRA` on ``out_proj``.

    Args:
        channels: fraction of channels that are trained, in (0, 1].
        states: fraction of states trained within a chosen channel, in (0, 1].
        warmup_steps: steps of the warm-up before the run's own, ≥ 1.

    Source: Sparse Dimension Tuning (arXiv 2410.09016) and its released code.
    Differs: counts are rounded up, so that none is 0; what is reset starts from the base again.
        The released option that also switches off the least important entries (``num_zero``) is
        pruning: prune A_log first, with a criterion for it, and what is cut stays cut here.
    """

    method: ClassVar[str] = "sdt"
    key: ClassVar[str] = "sdt_warmup"
    warm_key: ClassVar[str] = key
    channels: float = 0.01
    states: float = 0.25
    warmup_steps: int = 250

    def __post_init__(self) -> None:
        check_number("channels", self.channels, above=0, below=1 + 1e-12)
        check_number("states", self.states, above=0, below=1 + 1e-12)
        check_integer("warmup_steps", self.warmup_steps, at_least=1)

    def part(self, name: str, mixer: Any, draw: torch.Generator) -> TensorPart:
        if mixer.A_log.ndim != 2:
            raise UnsupportedError(
                f"sdt on {name}: the decay of a Mamba-2 head has no axis of states",
                allowed="Mamba and Falcon-Mamba mixers",
                next_step="use Parameters(targets=('A_log',)) or state-offset-h",
            )
        return TensorPart("A_log", "sdt", mixer.A_log, kept(mixer, "A_log"))

    def warm_steps(self, total: int) -> tuple[int, int]:
        return self.warmup_steps, total

    def warm_training(self) -> dict[str, Any]:
        return {}

    def settled(self, survey: Survey, warm: Mapping[str, TensorPart]) -> list[Placement]:
        mixers = survey.mixers
        if not any(_moved(mixers[name], part) for name, part in warm.items()):
            raise InputError(
                "no A_log has moved", next_step="train the adapter for its warm-up first"
            )
        return [
            site
            for name, part in warm.items()
            for site in _sparse_sites(name, mixers[name], _chosen(mixers[name], part, self))
        ]

    def placed(
        self, survey: Survey, warm: Mapping[str, TensorPart], tensors: Mapping[str, Tensor]
    ) -> list[Placement]:
        sites = []
        for name in warm:
            found = [tensors.get(f"{owner}.sdt.index") for owner in (name, f"{name}.x_proj")]
            if found[0] is not None and found[1] is not None:
                sites += _sparse_sites(name, survey.mixers[name], (found[0], found[1]))
        return sites

    def counts(self, mixer: Any) -> tuple[int, int]:
        """Return how many channels of a mixer are trained, and how many states in each."""
        e, n = mixer.A_log.shape
        return math.ceil(self.channels * e), math.ceil(self.states * n)


class SparsePart(TensorPart):
    """Trained changes at a few places of one parameter."""

    def __init__(self, parameter: str, base: Tensor, index: Int64[Tensor, "k"]) -> None:
        nn.Module.__init__(self)
        self.parameter = parameter
        self.label = "sdt"
        self.index: Tensor
        self.register_buffer("index", index)
        zeros = torch.zeros(len(index), dtype=master_dtype(base), device=base.device)
        self.change = nn.Parameter(zeros)

    def of(self, base: Tensor) -> Tensor:
        wide = base.to(self.change.dtype)
        return wide.reshape(-1).index_add(0, self.index, self.change).view_as(base)


def _sparse_sites(name: str, mixer: Any, indices: tuple[Tensor, Tensor]) -> list[Placement]:
    """Return the two sites that train chosen places of one mixer."""
    indices = indices[0].to(mixer.A_log.device), indices[1].to(mixer.A_log.device)
    decay = SparsePart("A_log", mixer.A_log, indices[0])
    rows = SparsePart("weight", mixer.x_proj._parameters["weight"], indices[1])
    return [
        Placement(owner=name, key="sdt", part=decay),
        Placement(owner=f"{name}.x_proj", key="sdt", part=rows),
    ]


def _chosen(mixer: Any, warm: TensorPart, config: SDT) -> tuple[Tensor, Tensor]:
    """Return the places that matter most after the warm-up, flat, in A_log and in ``x_proj``."""
    base: Tensor = mixer._parameters["A_log"].detach()
    moved: Float[Tensor, "e n"] = (warm.of(base).detach().double() - base.double()).square()
    alive = kept(mixer, "A_log")
    moved = moved if alive is None else torch.where(alive, moved, -1.0)
    channels, states = config.counts(mixer)
    ranked = moved.clamp(min=0).sum(1).sort(descending=True, stable=True).indices
    picked = ranked[:channels].sort().values
    best = moved[picked].sort(dim=1, descending=True, stable=True).indices[:, :states]
    flat = (picked[:, None] * moved.shape[1] + best).reshape(-1)
    flat = flat[moved.reshape(-1)[flat] >= 0].sort().values
    return flat, _row_places(mixer, picked)


def _row_places(mixer: Any, channels: Int64[Tensor, "c"]) -> Int64[Tensor, "k"]:
    parts, width = row_parts(mixer, "x_proj"), mixer.x_proj.in_features
    rows = torch.arange(parts["B"].start, parts["C"].stop, device=channels.device)
    places = (rows[:, None] * width + channels).reshape(-1)
    alive = kept(mixer.x_proj, "weight")
    chosen_places: Tensor = places if alive is None else places[alive.reshape(-1)[places]]
    return chosen_places


def _moved(mixer: Any, part: TensorPart) -> bool:
    base = mixer._parameters["A_log"].detach()
    return not torch.equal(part.of(base).detach().to(base.dtype), base)
