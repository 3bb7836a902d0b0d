"""The sections of a receipt, field by field; what was not measured stands in none of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ssmith.core.settings import REST, Sparse

Number = float | int


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One quantity before and after."""

    before: Number
    after: Number

    @classmethod
    def of(cls, pair: Sequence[Number]) -> Pair:
        """Return (before, after) by name."""
        return cls(before=pair[0], after=pair[1])

    @property
    def ratio(self) -> float | None:
        """After divided by before, or None where that has no meaning."""
        return self.after / self.before if self.before > 0 else None


@dataclass(frozen=True, kw_only=True)
class Missing:
    """A quantity that could not be measured before and after, and why."""

    why: str
    before: None = None
    after: None = None


@dataclass(frozen=True, kw_only=True)
class Measured(Sparse):
    """A number with the ends of its interval, how that was made or why there is none."""

    value: Number
    low: Number | None = None
    high: Number | None = None
    interval: str = ""
    level: Number | None = None
    why_no_interval: str = ""


@dataclass(frozen=True, kw_only=True)
class Sides(Sparse):
    """A number before and after, with the difference in pairs."""

    before: Measured | None = None
    after: Measured | None = None
    difference: Measured | None = None


@dataclass(frozen=True, kw_only=True)
class ModelSection(Sparse):
    """Of which model: name, families, task, layers, parameters, digests, where it came from."""

    name: str = ""
    source: str = ""
    family: str = ""
    task: str = ""
    layers: int | None = None
    parameters: int | None = None
    digest_before: str | None = None
    digest_after: str | None = None


@dataclass(frozen=True, kw_only=True)
class Rate:
    """A peak learning rate of an optimiser, and where it comes from, in words."""

    value: float
    source: str = ""
    optimizer: str = "adamw"


@dataclass(frozen=True, kw_only=True)
class CutMade:
    """One cut of a plan: what, by which method and budget, and what a cut unit means."""

    unit: str
    method: dict[str, Any]
    budget: dict[str, Any]
    semantics: str


@dataclass(frozen=True, kw_only=True)
class MethodSection(Sparse):
    """How it was done.

    ``settings`` are those of a command (``config`` those of a pilot), ``cuts`` what a pruning cut,
    ``criterion`` and ``budget`` what a pilot chose, ``methods`` and ``rates`` those of an adapter.
    """

    command: tuple[str, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    cuts: tuple[CutMade, ...] = ()
    mode: str = ""
    criterion: dict[str, Any] = field(default_factory=dict)
    budget: dict[str, Number | str] = field(default_factory=dict)
    refit: dict[str, Any] = field(default_factory=dict)
    recovery: dict[str, Any] = field(default_factory=dict)
    max_loss: Number | str | None = None
    methods: tuple[str, ...] = ()
    rates: dict[str, Rate] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class DataSection(Sparse):
    """On which rows: name, digest, how many by split, and in ``details`` how they were read.

    The parts of a text that were used stand below it, with their windows and tokens.
    """

    name: str = ""
    sha256: str = ""
    source: str = ""
    split: str = ""
    counts: dict[str, int] = field(default_factory=dict)
    windows: int | None = None
    tokens: int | None = None
    scored_tokens: int | None = None
    pad_share: float | None = None
    details: dict[str, Any] = field(default_factory=dict)
    selection: DataSection | None = None
    calibration: DataSection | None = None
    recovery: DataSection | None = None
    recovery_validation: DataSection | None = None


@dataclass(frozen=True, kw_only=True)
class UnitRemoved:
    """How many of a unit there were and are, and the fraction that went."""

    before: int
    after: int
    fraction: Number


@dataclass(frozen=True, kw_only=True)
class NaiveAnswer:
    """What an answer that never looks at the inputs reaches, and what it is."""

    value: Number
    answer: str


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """The 2×2 table of a paired comparison of shares."""

    both_right: int
    only_before: int
    only_after: int
    both_wrong: int


@dataclass(frozen=True, kw_only=True)
class LossTold:
    """How much worse the second model is, and between which one-sided bounds."""

    value: Number
    lower_bound: Number | None = None
    upper_bound: Number | None = None


@dataclass(frozen=True, kw_only=True)
class OwnQuality(Sparse):
    """The user's own metric before and after."""

    name: str
    higher_is_better: bool | None = None
    before: Number
    after: Number
    difference: Measured
    level: Number | None = None


@dataclass(frozen=True, kw_only=True)
class TaskQuality(Sparse):
    """One metric of one task before and after: of lm-eval, or of recall over a length."""

    task: str
    metric: str
    length: int | None = None
    count: int | None = None
    higher_is_better: bool | None = None
    before: Number
    after: Number
    difference: Measured
    about: dict[str, Any] = field(default_factory=dict, metadata=REST)


@dataclass(frozen=True, kw_only=True)
class Backends:
    """Which backend ran in each model, one line per operation."""

    before: tuple[str, ...]
    after: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class QualitySection(Sparse):
    """A metric before and after on the same rows (see `ssmith.evaluation.Comparison`)."""

    metric: str = ""
    higher_is_better: bool | None = None
    split: str = ""
    count: int | None = None
    units: int | None = None
    counted: str = ""
    share: bool | None = None
    relative: bool | None = None
    naive: NaiveAnswer | None = None
    before: Measured | None = None
    after: Measured | None = None
    level: Number | None = None
    interval: str = ""
    difference: Measured | None = None
    increase: Measured | None = None
    loss: LossTold | None = None
    p: Number | None = None
    p_test: str = ""
    agreement: Agreement | None = None
    own: OwnQuality | None = None
    weight: Number | None = None
    weighed: str = ""
    also: dict[str, Sides] = field(default_factory=dict)
    paths: Backends | None = None
    recall: tuple[TaskQuality, ...] = ()
    lm_eval: tuple[TaskQuality, ...] = ()


@dataclass(frozen=True, kw_only=True)
class JudgedAnswers:
    """What some written answers are worth.

    Metrics are in percent. ``unparsable`` answers are none of the allowed ones and counted as
    wrong, None where any text is allowed; ``unended`` ones were cut at the most tokens allowed.
    """

    count: int
    metrics: dict[str, float]
    unparsable: int | None
    unended: int
    settings: dict[str, Any] = field(default_factory=dict)
    answers: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class TunedQuality(Sparse):
    """What a tuning was worth: each measure after it, and before it where there was a model."""

    split: str = ""
    count: int | None = None
    interval: str = ""
    why_null: str = ""
    answers: JudgedAnswers | None = None
    measures: dict[str, Sides] = field(default_factory=dict, metadata=REST)


@dataclass(frozen=True, kw_only=True)
class WarmUp:
    """What was run before the first sample that counts.

    Calls are of each of the two runs, seconds of both; settled are runs that took the same time
    twice in a row at its end.
    """

    calls: int
    seconds: Number
    settled: bool


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Seconds of each sample, before and after."""

    before: tuple[Number, ...]
    after: tuple[Number, ...]


@dataclass(frozen=True, kw_only=True)
class Timed(Sparse):
    """Median seconds before and after, with the least ones and every sample."""

    before: Number
    after: Number
    minimum: Pair | None = None
    samples: Samples | None = None
    loops: int | None = None
    warm_up: WarmUp | None = None


@dataclass(frozen=True, kw_only=True)
class SpeedSection(Sparse):
    """Times in seconds, and under which conditions; of a tuning, those of its training."""

    path: str = ""
    threads: int | None = None
    batch_size: int | None = None
    length: int | None = None
    step_batch_size: int | None = None
    repeats: int | None = None
    per_batch: Timed | Missing | None = None
    state_space_per_batch: Timed | Missing | None = None
    per_step: Timed | Missing | None = None
    training_seconds: Number | None = None
    training_tokens_per_second: Number | None = None


@dataclass(frozen=True, kw_only=True)
class Resident(Sparse):
    """Resident bytes of the process before the work, and at most during it."""

    before: int | None = None
    peak: int | None = None
    how: str = ""


@dataclass(frozen=True, kw_only=True)
class MemorySection(Sparse):
    """Bytes of a forward pass, of a state and of parameters; or what a pruning took."""

    how: str = ""
    batch_size: int | None = None
    length: int | None = None
    peak_forward_bytes: Pair | None = None
    state_bytes_per_sequence: Pair | Missing | None = None
    parameter_bytes: Pair | None = None
    estimated: dict[str, int] = field(default_factory=dict)
    measured: Resident | None = None


@dataclass(frozen=True, kw_only=True)
class SizeSection(Sparse):
    """Bytes on disk and in tensors, parameters before and after; of an adapter its own."""

    bytes: Pair | None = None
    tensor_bytes: Pair | None = None
    parameters: Pair | None = None
    trained_parameters: int | None = None
    stored_parameters: int | None = None
    share: Number | None = None


@dataclass(frozen=True, kw_only=True)
class ParitySection(Sparse):
    """Largest difference of each two ways to the same model (``worst``), null with its reason."""

    dtype: str = ""
    tolerance: Number | None = None
    tolerances: dict[str, Number] = field(default_factory=dict)
    passed: bool | None = None
    why_null: dict[str, str] = field(default_factory=dict)
    worst: dict[str, Number | None] = field(default_factory=dict, metadata=REST)


@dataclass(frozen=True, kw_only=True)
class SavingSection(Sparse):
    """An estimate of money and time, with its assumptions."""

    price_per_hour: Number | None = None
    currency: str = ""
    sequences_per_day: Number | None = None
    seconds_per_sequence: Pair | None = None
    hours_per_month: Pair | None = None
    cost_per_month: Pair | None = None
    saved_per_month: Number | None = None
    counted: str = ""
    assumptions: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Reason:
    """What one gate says; ``passed`` is None where it could not."""

    gate: str
    passed: bool | None = None
    text: str


@dataclass(frozen=True, kw_only=True)
class Verdict(Sparse):
    """Whether a change is accepted, None where nobody judged it.

    The headline names the biggest measured facts, failures first.
    """

    accepted: bool | None = None
    headline: str = ""
    reasons: tuple[Reason, ...] = ()
