"""State-OBS: the exact cost of removing a state when the read-out of the others is refitted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, final, get_args

import torch
from jaxtyping import Float64
from torch import Tensor

from ssmith.core.checks import check_choice, check_number
from ssmith.core.errors import InputError
from ssmith.core.layers import Modes
from ssmith.core.layout import Layout
from ssmith.core.moments import Moments
from ssmith.core.regression import System, solve_kept, system_of
from ssmith.core.scores import Scores
from ssmith.criteria.common import score_modes
from ssmith.criteria.elimination import Elimination, eliminate

Share = Literal["marginal", "cumulative"]
Weigh = Literal["energy", "sensitivity"]


@final
@dataclass(frozen=True, kw_only=True)
class StateOBS:
    """Greedy elimination by exact least-squares cost, as a share of the layer's output energy.

    States go one after the other, always the one whose removal costs least once the read-out of
    the others is refitted. A later one scores higher, so any budget cuts along that order.

    Args:
        ridge: noise added to every feature, as a share of its energy, > 0.
        share: ``"marginal"``: what the removal adds to the layer's relative error (its running
            maximum), so that the sum of errors over layers stays small. ``"cumulative"``: the
            whole relative error once the state is gone, so that all layers end equally wrong.
        weigh: ``"energy"``: errors count relative to the layer's output energy.
            ``"sensitivity"``: by how far they move the model's outputs, to first order, which the
            moments must hold.

    Source: own design, after Optimal Brain Surgeon (Hassibi and Stork, 1993).
    Differs: with moments of white noise and no correlation between states it ranks as AIRE does.
    """

    ridge: float = 1e-9
    share: Share = "marginal"
    weigh: Weigh = "energy"

    def __post_init__(self) -> None:
        check_number("ridge", self.ridge, above=0)
        check_choice("share", self.share, get_args(Share))
        check_choice("weigh", self.weigh, get_args(Weigh))

    @property
    def needs(self) -> tuple[str, ...]:
        """Statistics it reads."""
        return ("moments",) + ("sensitivity",) * (self.weigh == "sensitivity")

    @property
    def label(self) -> str:
        """Name for plots and tables."""
        extras = ["cumulative"] * (self.share == "cumulative")
        extras += ["energy"] * (self.weigh == "energy")
        return f"State-OBS ({', '.join(extras)})" if extras else "State-OBS"

    def __call__(
        self, layers: Sequence[Modes], stats: Mapping[str, object] | None = None
    ) -> Scores:
        """Score every mode by the moments of its layer, ``stats[layer]``."""
        whole = {modes.layer: modes for modes in layers}

        def measure(modes: Modes) -> Float64[Tensor, "s"]:
            full = whole[modes.layer]
            rankable = full.present & ~full.is_unstable()
            return self._measure(full, moments_of(full, stats))[rankable]

        return score_modes(self, layers, measure, "model")

    def _measure(self, modes: Modes, moments: Moments) -> Float64[Tensor, "s"]:
        layout = Layout.of(modes)
        system = system_of(layout, modes, moments, self.ridge)
        present = layout.place(modes.present)
        features = present.repeat_interleave(layout.parts, dim=-1)
        best = system.weight + solve_kept(system.gram, system.error, features)
        if self.weigh == "sensitivity":
            best = best @ _root(modes, moments.sensitivity)
        found = eliminate(
            system.gram,
            best,
            present=present,
            removable=layout.place(modes.present & ~modes.is_unstable()),
        )
        unit = _energy(system, best)
        if self.weigh == "sensitivity" and unit > 0:
            # The costs of all layers are in the unit of the model's outputs already.
            unit = 1.0
        return layout.flat(self._rising(found, unit))

    def _rising(self, found: Elimination, energy: float) -> Float64[Tensor, "g n"]:
        """Lay scores out in the states' places, strictly rising along each group's order."""
        table = torch.zeros_like(found.cost)
        if energy <= 0:
            return table
        cost = found.cost / energy
        rising = cost.cumsum(-1) if self.share == "cumulative" else cost.cummax(-1).values
        rows = torch.arange(len(table))
        score = torch.zeros(len(table), dtype=torch.float64)
        for step in range(table.shape[1]):
            # Strictly, so that equal costs still leave in the order they were computed in.
            score = torch.maximum(rising[:, step], torch.nextafter(score, score + 1))
            going = found.order[:, step] >= 0
            table[rows[going], found.order[going, step]] = score[going]
        return table


def moments_of(modes: Modes, stats: Mapping[str, object] | None) -> Moments:
    """Return the moments of a layer."""
    found = (stats or {}).get(modes.layer)
    if not isinstance(found, Moments):
        raise InputError(
            f"there are no moments of layer {modes.layer}",
            allowed="moments of every layer",
            next_step="measure them on sequences, or take those of white noise",
        )
    return found


def _root(modes: Modes, sensitivity: Float64[Tensor, "g o o"] | None) -> Float64[Tensor, "g o o"]:
    """Return R with ``R Rᵀ`` the sensitivity, so that weighted errors are plain sums of squares."""
    if sensitivity is None:
        raise InputError(
            f"the moments of layer {modes.layer} hold no sensitivity",
            allowed="weigh='energy' with these moments",
            next_step="pass sensitivity=ssmith.sensitivity(model, part) to ssmith.moments",
        )
    values, vectors = torch.linalg.eigh(sensitivity)
    root: Tensor = vectors * values.clamp(min=0).sqrt().unsqueeze(-2)
    return root


def _energy(system: System, best: Float64[Tensor, "g f o"]) -> float:
    """Return the mean energy of the output that the states give, summed over channels."""
    return float((best * (system.gram @ best)).sum())
