"""Settings of a pilot on a language model."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ssmith.core.budget import AUTO, Budget, check_fraction
from ssmith.core.checks import check_choice, check_flag, check_integer, check_number
from ssmith.core.errors import InputError
from ssmith.evaluation import Limits, Load, SpeedConfig
from ssmith.evaluation.harness import HarnessConfig, harness_config
from ssmith.jobs.pilot.cuts import (
    BASELINES,
    FRACTIONS,
    Cut,
    amount_of,
    group_fractions,
)
from ssmith.jobs.source import RowsConfig
from ssmith.jobs.tuning.recovery import RecoveryConfig
from ssmith.spine.choice import Choice, choose


@dataclass(frozen=True, kw_only=True)
class LanguagePilotConfig:
    """What to try, on which text, and what to accept.

    Args:
        cut: whole states (``state``), which makes a model smaller; entries of A_log (``entry``);
            weights of the projections (``weight``); or ``whole``: the same share of both.
        method: criterion by name (see `ssmith list`), or ``auto`` for the best known for the cut.
            Of projections obs, wanda, sparsegpt, magnitude or random; of the whole model the name
            of what scores A_log, and projections go by what belongs to it.
        baselines: criteria measured beside it, states without compensation; those of the cut by
            default; the method itself is left out of them.
        compensate: whether the method's cut of states is made up for in closed form: new rows of C
            for states, D for entries. Weights make up for their cut by their method.
        fractions: fractions to try, each in (0, 1); those of the cut by default.
        group: M of N:M: every fraction is cut as a pattern in groups of M neighbours; None for
            no pattern.
        samples: calibration windows, ≥ 1.
        length: tokens of each window, of calibration and of measurement, ≥ 2.
        windows: most windows of the selection split; the cut is chosen on them.
        test_windows: most windows of the test split; None for all.
        field: key of the text in each line of a ``.jsonl`` file, or column of a ``.csv`` one.
        recover: adapters, by name between commas (see ``ssmith list``), that learn to make up for
            the cut and are then written into the model; None for none. Cuts larger than the
            tolerance allows are tried with it, one after the other.
        recover_steps: optimiser steps of each recovery, ≥ 1.
        recover_rate: its learning rate; None for the starting rate of each method.
        distill_weight: share of the dense model in the loss, in [0, 1]; the rest is the text.
        max_loss: largest relative increase of perplexity (0.01 is one per cent).
        min_gain: fraction by which size, memory or time must fall, in (0, 1).
        proof: accept only an increase that is proven to be within ``max_loss``.
        batch_size: windows per forward pass.
        threads: CPU threads of the speed measurement; None leaves PyTorch's setting.
        speed_seconds: time for each of the two speed measurements.
        lm_eval: tasks of lm-eval that both models answer as well, reported and not judged: names
            it knows, or paths of YAML files (extra ``lm-eval``).
        lm_eval_limit: documents of each of these tasks at most, the first ones; None for all.
        few_shot: solved examples before each question; None for each task's own number.
        price_per_hour: of the machine, for the estimate of the saving.
        currency: as it is printed.
        sequences_per_day: windows of ``length`` tokens a day, for the estimate of the saving.
        seed: of calibration, resampling and random pruning.

    Raises:
        InputError: if a value is outside its domain.
    """

    cut: str = "state"
    method: str = AUTO
    baselines: tuple[str, ...] | None = None
    compensate: bool = True
    fractions: tuple[float, ...] | None = None
    group: int | None = None
    samples: int = 64
    length: int = 1024
    windows: int = 64
    test_windows: int | None = None
    field: str = "text"
    recover: str | None = None
    recover_steps: int = 200
    recover_rate: float | None = None
    distill_weight: float = 1.0
    max_loss: float | int = 0.01
    min_gain: float = 0.05
    proof: bool = False
    batch_size: int = 8
    threads: int | None = None
    speed_seconds: float = 2.0
    lm_eval: tuple[str, ...] = ()
    lm_eval_limit: int | None = None
    few_shot: int | None = None
    price_per_hour: float = 1.0
    currency: str = "USD"
    sequences_per_day: float = 1e6
    seed: int = 0

    def __post_init__(self) -> None:
        check_choice("cut", self.cut, tuple(FRACTIONS))
        if self.group is not None:
            check_integer("group", self.group, at_least=2)
        for name in ("samples", "windows", "batch_size"):
            check_integer(name, getattr(self, name), at_least=1)
        check_integer("length", self.length, at_least=2)
        check_integer("seed", self.seed, at_least=0)
        check_number("max_loss", self.max_loss, at_least=0)
        check_number("speed_seconds", self.speed_seconds, above=0)
        for name in ("compensate", "proof"):
            check_flag(name, getattr(self, name))
        self.limits()
        self.recovery()
        self.harness()
        for name in ("price_per_hour", "sequences_per_day"):
            check_number(name, getattr(self, name), at_least=0)
        if not self.tried():
            raise InputError("fractions is empty", allowed="fractions in (0, 1)")
        for fraction in self.tried():
            check_fraction("fractions", fraction)
            for method in self.methods():
                self.choice(method, fraction)

    def tried(self) -> tuple[float, ...]:
        """Return the fractions to try, rising, each once."""
        usual = FRACTIONS[self.cut] if self.group is None else group_fractions(self.group)
        return tuple(sorted(set(usual if self.fractions is None else self.fractions)))

    def methods(self) -> tuple[str, ...]:
        """Return all methods to measure, each once, the one that may cut first."""
        beside = BASELINES[self.cut] if self.baselines is None else self.baselines
        return tuple(dict.fromkeys((self.method, *beside)))

    def budgets(self, method: str, fraction: float, *, recovered: bool = False) -> list[Budget]:
        """Return what one cut of the sweep is.

        Args:
            method: criterion by name.
            fraction: to remove.
            recovered: whether it is the start of a recovery: offsets that will train are fitted
                in closed form first.

        Returns:
            The cut; baselines are not compensated.
        """
        fitted = self.compensate and method == self.method
        recovery = self.recovery() if recovered and fitted else None
        return Cut(
            unit=self.cut,
            amount=amount_of(fraction, self.group),
            method=method,
            fitted=fitted,
            terms="" if recovery is None else recovery.terms(),
            seed=self.seed,
        ).budgets()

    def choice(self, method: str, fraction: float, *, refits: bool = True) -> Choice:
        """Return the same with nothing left to choose; ``refits``: of models whose C is free."""
        return choose(self.budgets(method, fraction), refits=refits)

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

    def harness(self) -> HarnessConfig | None:
        """Return which tasks of lm-eval are run, or None if none is."""
        return harness_config(
            self.lm_eval,
            self.lm_eval_limit,
            self.few_shot,
            batch_size=self.batch_size,
            seed=self.seed,
        )

    def load(self) -> Load:
        """Return the price and the traffic."""
        return Load(
            price_per_hour=self.price_per_hour,
            currency=self.currency,
            sequences_per_day=self.sequences_per_day,
        )

    def text(self, split: str) -> RowsConfig:
        """Return how windows of a split are cut."""
        return RowsConfig(
            split=split,
            length=self.length,
            windows=self.test_windows if split == "test" else self.windows,
            field=self.field,
            batch_size=self.batch_size,
        )

    def limits(self) -> Limits:
        """Return what the gate accepts."""
        return Limits(max_loss=self.max_loss, min_gain=self.min_gain, proof=self.proof)

    def speed(self) -> SpeedConfig:
        """Return how speed is measured."""
        return SpeedConfig(seconds=self.speed_seconds, threads=self.threads)

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dict, defaults resolved."""
        return {
            **asdict(self),
            "baselines": [name for name in self.methods() if name != self.method],
            "fractions": list(self.tried()),
            "lm_eval": list(self.lm_eval),
        }
