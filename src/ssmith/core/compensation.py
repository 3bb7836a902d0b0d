"""Compensation: new values for the states that stay, decided but not yet written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

from jaxtyping import Complex128, Float64
from torch import Tensor

from ssmith.core.checks import check_choice, check_flag, check_integer, check_number
from ssmith.core.findings import Finding

Poles = Literal["kept", "balanced", "perturbation", "h2"]


@dataclass(frozen=True, kw_only=True)
class RefitConfig:
    """What is refitted, and how.

    The read-out C always is, in closed form.

    Args:
        ridge: noise added to every feature, as a share of its energy, > 0.
        direct: refit the diagonal of D as well.
        rounds: how often the input rows B and then the read-out are refitted in turn, ≥ 0; each
            half of a round is least squares, so the error never rises. SISO layers have nothing
            to gain: only the product of B and C counts there.
        poles: ``"kept"``: eigenvalues stay as they are. Otherwise the layer is first reduced to as
            many states as stay: by projection and diagonalised again (``"balanced"`` truncation,
            or balanced singular ``"perturbation"``, which keeps the response to constant input),
            or by ``"h2"``, a descent from the states that stay to H2-optimal ones.
        worst_condition: of the eigenvectors after a projection, ≥ 1; beyond it the layer keeps the
            states chosen, and a finding says so.
    """

    ridge: float = 1e-9
    direct: bool = False
    rounds: int = 0
    poles: Poles = "kept"
    worst_condition: float = 1e3

    def __post_init__(self) -> None:
        check_number("ridge", self.ridge, above=0)
        check_flag("direct", self.direct)
        check_integer("rounds", self.rounds, at_least=0)
        check_choice("poles", self.poles, get_args(Poles))
        check_number("worst_condition", self.worst_condition, at_least=1)


@dataclass(frozen=True, kw_only=True)
class Readout:
    """New values for one layer: its read-out, and whatever else was refitted.

    Args:
        C: read-out of each state, as in `Modes`; 0 for removed ones.
        C_back: the same for the backward branch, or None.
        D_change: what is added to D at each channel.
        error: mean squared error of the layer's output after the cut, summed over channels,
            before and after refitting, on the moments it was fitted to.
        B_bar: discretised input rows of each state, as in `Modes`; as they are if None.
        A_bar: discrete eigenvalues; as they are if None. Values at removed states do not count.
        findings: what a user must be told about these values.
    """

    C: Complex128[Tensor, "s o"]
    C_back: Complex128[Tensor, "s o"] | None
    D_change: Float64[Tensor, "m"]
    error: tuple[float, float]
    B_bar: Complex128[Tensor, "s i"] | None = None
    A_bar: Complex128[Tensor, "s"] | None = None
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Compensation:
    """What goes with a plan: how each cut layer makes up for the states it lost."""

    readouts: dict[str, Readout]
    settings: dict[str, Any]
