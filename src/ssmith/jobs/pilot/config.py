"""Settings of a pilot."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ssmith.core.budget import AUTO, Budget
from ssmith.core.checks import check_flag, check_integer, check_number
from ssmith.core.errors import InputError
from ssmith.evaluation import Limits, Load, SpeedConfig
from ssmith.jobs.tuning.recovery import RecoveryConfig
from ssmith.spine.lti import Method, method_of

AUTO_WITHOUT_DATA = "auto-data-free"
CALIBRATION = 256
"""Training sequences that refits are fitted to, unless told otherwise."""
CANDIDATES = ("state-obs", "balanced", "aire", "last")
"""What ``auto`` chooses from, in order of preference where they are equally good."""
CANDIDATES_WITHOUT_DATA = ("aire", "last")
"""What ``auto`` chooses from where there are no training sequences."""
BASELINES = (
    "last",
    "aire",
    "hinf-global",
    "hinf-uniform",
    "lamp",
    "magnitude-global",
    "magnitude-uniform",
    "random",
)
FRACTIONS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


@dataclass(frozen=True, kw_only=True)
class PilotConfig:
    """What to try, what to accept, what it costs.

    Args:
        method: what cuts: a criterion by name (see `ssmith list`), or ``"auto"`` for the best on
            the selection split of State-OBS, balanced truncation, AIRE and LAST
            (``"auto-data-free"``: of AIRE and LAST alone, which is what
            ``"auto"`` becomes, with a finding, where the data has no training split).
        baselines: methods measured beside it; the method itself is left out of them.
        calibration: training sequences that refits are fitted to, ≥ 1.
        fractions: fractions of states to remove in the first sweep, each in (0, 1).
        refine: further fractions between the last one within tolerance and the first beyond.
        max_loss: largest loss of the task metric, in its own unit (0.005 is half a point).
        recover: adapters, by name between commas (see ``ssmith list``), that learn to make up for
            the cut and are then merged into the model: full, full-ssm or parameters; None for
            none. Cuts larger than the tolerance allows are tried with it, one after the other.
        recover_steps: optimiser steps of each recovery, ≥ 1.
        recover_rate: its learning rate; None for the starting rate of each method.
        distill_weight: share of the dense model in the loss, in [0, 1]; the rest is the data.
        own_metric: the user's own metric, ``"module:function"`` or ``"file.py:function"``.
        own_lower_is_better: direction of the own metric.
        own_max_loss: largest loss of the own metric; None reports it without judging.
        proof: accept only a loss that is proven to be within ``max_loss``.
        seed: of resampling and of random pruning.
        batch_size: sequences per forward pass, also when timed.
        threads: CPU threads; None leaves PyTorch's setting.
        speed_seconds: time for each of the three speed measurements.
        price_per_hour: of the machine, for the estimate of the saving.
        currency: as it is printed.
        sequences_per_day: load, for the estimate of the saving.

    Raises:
        InputError: if a value is outside its domain.
    """

    method: str = AUTO
    baselines: tuple[str, ...] = BASELINES
    calibration: int = CALIBRATION
    fractions: tuple[float, ...] = FRACTIONS
    refine: int = 4
    max_loss: float = 0.005
    recover: str | None = None
    recover_steps: int = 200
    recover_rate: float | None = None
    distill_weight: float = 1.0
    own_metric: str | None = None
    own_lower_is_better: bool = False
    own_max_loss: float | None = None
    proof: bool = False
    seed: int = 0
    batch_size: int = 64
    threads: int | None = None
    speed_seconds: float = 2.0
    price_per_hour: float = 1.0
    currency: str = "USD"
    sequences_per_day: float = 1e6

    def __post_init__(self) -> None:
        for name in (*self.candidates(), *self.baselines):
            method_named(name)
        if not self.fractions:
            raise InputError("fractions is empty", allowed="at least one fraction")
        self.recovery()
        for fraction in self.fractions:
            check_number("a fraction", fraction, above=0, below=1)
        for name, least in (("batch_size", 1), ("calibration", 1), ("refine", 0), ("seed", 0)):
            check_integer(name, getattr(self, name), at_least=least)
        if self.threads is not None:
            check_integer("threads", self.threads, at_least=1)
        for name in ("max_loss", "own_max_loss", "price_per_hour", "sequences_per_day"):
            if getattr(self, name) is not None or name != "own_max_loss":
                check_number(name, getattr(self, name), at_least=0)
        check_number("speed_seconds", self.speed_seconds, above=0)
        for name in ("proof", "own_lower_is_better"):
            check_flag(name, getattr(self, name))

    def candidates(self) -> tuple[str, ...]:
        """Return the names of the methods from which the one that cuts is chosen."""
        some = {AUTO: CANDIDATES, AUTO_WITHOUT_DATA: CANDIDATES_WITHOUT_DATA}
        return some.get(self.method.strip().lower(), (self.method,))

    @property
    def is_auto(self) -> bool:
        """Whether the method is chosen among all, those fitted to training sequences included."""
        return self.method.strip().lower() == AUTO

    def methods(self) -> tuple[str, ...]:
        """Return the names of all methods to measure, each once, the candidates first."""
        labels: dict[str, str] = {}
        for name in (*self.candidates(), *self.baselines):
            labels.setdefault(method_named(name).label, name)
        return tuple(labels.values())

    def needs_data(self) -> bool:
        """Return whether a method is fitted to training sequences."""
        return any(method_named(name).needs_data for name in self.methods())

    def recovery(self) -> RecoveryConfig | None:
        """Return how cut models are recovered, or None if they are not."""
        if self.recover is None:
            return None
        return RecoveryConfig(
            methods=self.recover,
            steps=self.recover_steps,
            rate=self.recover_rate,
            distill_weight=self.distill_weight,
            batch_size=self.batch_size,
            seed=self.seed,
        )

    def limits(self) -> Limits:
        """Return what the gate accepts."""
        return Limits(max_loss=self.max_loss, own_max_loss=self.own_max_loss, proof=self.proof)

    def load(self) -> Load:
        """Return the price and the traffic."""
        return Load(
            price_per_hour=self.price_per_hour,
            currency=self.currency,
            sequences_per_day=self.sequences_per_day,
        )

    def speed(self) -> SpeedConfig:
        """Return how speed is measured."""
        return SpeedConfig(seconds=self.speed_seconds, threads=self.threads)

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dict."""
        content = asdict(self)
        return {**content, "baselines": list(self.baselines), "fractions": list(self.fractions)}


def method_named(name: str, seed: int = 0) -> Method:
    """Return a method for states by name; ``seed`` is that of the random criterion."""
    return method_of(Budget("state", 0.5, method=name, seed=seed), has_data=True)
