"""Settings of a pilot."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

from ssmith.artefact.openers import OPENERS, Opener
from ssmith.core.budget import AUTO, NONE
from ssmith.core.checks import check_choice, check_flag, check_integer, check_number
from ssmith.core.errors import InputError
from ssmith.core.recall import RecallConfig
from ssmith.core.settings import AsDict
from ssmith.evaluation import Limits, Load, Metric
from ssmith.evaluation.harness import HarnessConfig, harness_config
from ssmith.jobs.measuring import MeasuringConfig
from ssmith.jobs.source import RowsConfig
from ssmith.jobs.tuning.recovery import RecoveryConfig

BESIDE = ("neuron", "kv_group", "head", "head_dim", "expert", "expert_neuron")
"""Units of hybrids that methods with data know."""
UNITS = ("state", "entry", "weight", *BESIDE)
_LENGTH, _WINDOWS = 1024, 64
_SAMPLES, _CALIBRATION_WINDOWS = 256, 64
_OF_TEXT = (
    "length",
    "windows",
    "test_windows",
    "field",
    "lm_eval",
    "group",
    "recall_texts",
    "recall_length",
    "max_recall_loss",
)
_OF_SEQUENCES = ("own_metric", "own_lower_is_better", "own_max_loss")
_WHOLE = {"refine": 0, "samples": 1, "length": 2, "windows": 1, "test_windows": 1,
          "batch_size": 1, "threads": 1, "group": 2, "seed": 0}  # fmt: skip
_REAL = ("price_per_hour", "sequences_per_day")


@dataclass(frozen=True, kw_only=True)
class PilotConfig(AsDict, RecallConfig, MeasuringConfig):
    """What to try, what to accept, what it costs.

    Args:
        units: what is cut: ``state``, ``entry`` (of A_log), ``weight`` (of projections), of hybrids
            ``neuron``, ``kv_group``, ``head``, ``head_dim``, ``expert`` or ``expert_neuron``; or
            entries and weights together, the same share of both.
        method: what cuts: a criterion by name (see `ssmith list`), or ``"auto"``: the best known
            for selective layers, and for S5 and S4D the best on the selection split of State-OBS,
            balanced truncation, AIRE and LAST (``"auto-data-free"``: of AIRE and LAST alone, which
            is what ``"auto"`` becomes, with a finding, where there is no training split). Of both
            entries and weights it names what scores entries; weights go by what belongs to it.
        baselines: methods measured beside it, without compensation, the method itself left out;
            those known for the unit if None.
        target: what must open the result: ``engine`` (ssmith), ``stock`` transformers,
            ``llama.cpp`` or ``vllm``; cuts that it does not open are refused before any work.
        compensate: ``"auto"``: the method's cut is made up for in closed form where that is known;
            ``"none"``: it is not.
        sparsities: shares to remove in the first sweep, each in (0, 1); the usual ones if None.
        group: M of N:M: every share is cut as a pattern in groups of M neighbours; None for none.
        refine: further sparsities between the last one within tolerance and the first beyond; 4 of
            S5 and S4D and 0 of others if None.
        samples: calibration rows, ≥ 1; 256 sequences or 64 windows of text if None.
        length: tokens of each window of text, ≥ 2; 1,024 if None.
        windows: most windows of the selection split, on which the cut is chosen; 64 if None.
        test_windows: most windows of the test split; all if None.
        field: key of the text in each line of a ``.jsonl`` file, or column of a ``.csv`` one; text
            if None.
        metric: a task by name; the usual one of the model if None.
        max_loss: largest loss of the metric: ``"0.5 points"`` of a share of all such as accuracy,
            ``"1 %"`` of the distance between the model and the best answer that is always the same
            (of perplexity, and where no such answer is known, of the metric itself), ``"0.02
            absolute"`` in the metric's own unit; a plain number below 1 is points / 100 of a share
            and otherwise per cent / 100. 0.005 (half a point of accuracy, half a per cent), and
            0.01 (one per cent) of perplexity if None.
        min_gain: fraction by which size, memory or time must fall, in (0, 1).
        proof: accept only a loss that is proven to be within ``max_loss``.
        allow_copies: accept a cut whose test rows are copies of rows that were learned or chosen
            on.
        recover: adapters, by name between commas (see ``ssmith list``), that learn to make up for
            the cut and are then written into the model; None for none. Cuts larger than the
            tolerance allows are tried with it, one after the other.
        recover_steps: optimiser steps of each recovery, ≥ 1.
        recover_rate: its learning rate; None for the starting rate of each method.
        distill_weight: share of the dense model in the loss, in [0, 1]; the rest is the data.
        recall_texts: texts of each task of recall (a word to copy, values of keys, a pass key) that
            the model and the cut must still know; 0 measures none.
        max_recall_loss: largest loss of any of them that the model knew, as ``max_loss``.
        own_max_loss: the same of the own metric, in the sweep and in the verdict; None reports it
            without judging.
        seed: of calibration, of resampling and of random pruning.
        batch_size: rows per forward pass, also when timed; 64, of text 8 if None.
        lm_eval: tasks of lm-eval that both models answer as well, reported and not judged.
        lm_eval_limit: documents of each of these tasks at most, the first ones; None for all.
        few_shot: solved examples before each question; None for each task's own number.
        price_per_hour: of the machine, for the estimate of the saving.
        currency: as it is printed.
        sequences_per_day: load, for the estimate of the saving; of text windows.
    """

    units: tuple[str, ...] = ("state",)
    method: str = AUTO
    baselines: tuple[str, ...] | None = None
    target: Opener = "engine"
    compensate: str = AUTO
    sparsities: tuple[float, ...] | None = None
    group: int | None = None
    refine: int | None = None
    samples: int | None = None
    length: int | None = None
    windows: int | None = None
    test_windows: int | None = None
    field: str | None = None
    metric: str | None = None
    max_loss: float | int | str | None = None
    min_gain: float = 0.05
    proof: bool = False
    allow_copies: bool = False
    recover: str | None = None
    recover_steps: int = 200
    recover_rate: float | None = None
    distill_weight: float = 1.0
    recall_texts: int = 64
    max_recall_loss: float | int | str = "5 points"
    own_max_loss: float | int | str | None = None
    seed: int = 0
    batch_size: int | None = None
    lm_eval: tuple[str, ...] = ()
    lm_eval_limit: int | None = None
    few_shot: int | None = None
    price_per_hour: float = 1.0
    currency: str = "USD"
    sequences_per_day: float = 1e6

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_recall()
        for unit in self.units:
            check_choice("unit", unit, UNITS)
        if self.units not in [(unit,) for unit in UNITS] + [("entry", "weight")]:
            raise InputError(
                f"units are {', '.join(self.units) or 'none'}",
                allowed=f"one of {', '.join(UNITS)}, or entry and weight",
            )
        check_choice("target", self.target, OPENERS)
        check_choice("compensate", self.compensate, (AUTO, NONE))
        self._check_numbers()
        check_flag("proof", self.proof)
        self.limits()
        self.recovery()
        self.harness()

    def _check_numbers(self) -> None:
        for name, least in _WHOLE.items():
            if getattr(self, name) is not None:
                check_integer(name, getattr(self, name), at_least=least)
        for name in _REAL:
            if getattr(self, name) is not None:
                check_number(name, getattr(self, name), at_least=0)
        check_number("speed_seconds", self.speed_seconds, above=0)
        if self.sparsities is not None and not self.sparsities:
            raise InputError("sparsities is empty", allowed="at least one share in (0, 1)")
        for sparsity in self.sparsities or ():
            check_number("a sparsity", sparsity, above=0, below=1)

    def check_kind(self, *, text: bool, sequences: bool) -> None:
        """Raise if a setting says nothing about the rows at hand."""
        usual = PilotConfig()

        def refuse(names: Collection[str], reason: str) -> None:
            for name in names:
                if getattr(self, name) != getattr(usual, name):
                    raise InputError(f"{name} is for {reason}", next_step="leave it out")

        if not text:
            refuse(_OF_TEXT, "language models")
        if not sequences:
            refuse(_OF_SEQUENCES, "models of classes or numbers")

    def resolved(
        self,
        metric: Metric,
        *,
        text: bool,
        fitted: bool,
        sparsities: tuple[float, ...],
        baselines: tuple[str, ...],
    ) -> PilotConfig:
        """Return the same with nothing left open.

        ``fitted`` says whether layers are S5 or S4D, of which a cut is cheap to refine; sparsities
        and baselines are the usual ones.
        """

        def usual(value: Any, otherwise: Any) -> Any:
            return otherwise if value is None else value

        return replace(
            self,
            sparsities=tuple(sorted(set(usual(self.sparsities, sparsities)))),
            baselines=usual(self.baselines, baselines),
            refine=usual(self.refine, 4 if fitted else 0),
            samples=usual(self.samples, _CALIBRATION_WINDOWS if text else _SAMPLES),
            length=usual(self.length, _LENGTH) if text else None,
            windows=usual(self.windows, _WINDOWS) if text else None,
            max_loss=usual(self.max_loss, 0.01 if metric.relative else 0.005),
            batch_size=usual(self.batch_size, 8 if text else 64),
        )

    def rows(self, split: str) -> RowsConfig:
        """Return how rows of a split are taken."""
        windows = self.test_windows if split == "test" else self.windows
        return RowsConfig(
            split=split,
            length=self.length,
            windows=windows,
            field=self.field,
            batch_size=self.batch_size,
        )

    def recovery(self) -> RecoveryConfig | None:
        """Return how cut models are recovered, or None if they are not."""
        if self.recover is None:
            return None
        return RecoveryConfig(
            methods=self.recover,
            steps=self.recover_steps,
            rate=self.recover_rate,
            distill_weight=self.distill_weight,
            batch_size=self.batch_size or 8,
            seed=self.seed,
        )

    def harness(self) -> HarnessConfig | None:
        """Return which tasks of lm-eval are run, or None if none is."""
        return harness_config(
            self.lm_eval,
            self.lm_eval_limit,
            self.few_shot,
            batch_size=self.batch_size or 8,
            seed=self.seed,
        )

    def limits(self) -> Limits:
        """Return what the gate accepts."""
        return Limits(
            max_loss=0.0 if self.max_loss is None else self.max_loss,
            own_max_loss=self.own_max_loss,
            max_recall_loss=self.max_recall_loss,
            min_gain=self.min_gain,
            proof=self.proof,
            allow_copies=self.allow_copies,
        )

    def load(self) -> Load:
        """Return the price and the traffic."""
        return Load(
            price_per_hour=self.price_per_hour,
            currency=self.currency,
            sequences_per_day=self.sequences_per_day,
        )
