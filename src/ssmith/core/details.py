"""What a receipt tells of its own kind of action: a cut, a tuning, a merge, a trial."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ssmith.core.curve import Curve
from ssmith.core.sections import Measured, Number
from ssmith.core.settings import REST, Sparse


@dataclass(frozen=True, kw_only=True)
class CutLayer(Sparse):
    """One layer before and after: its units, and in a pilot their scores and which were kept."""

    name: str = ""
    unit: str = ""
    grid: tuple[int, ...] = ()
    before: int | None = None
    after: int | None = None
    scores: tuple[Number | None, ...] = ()
    kept: tuple[bool, ...] = ()


@dataclass(frozen=True, kw_only=True)
class MergedFirst:
    """What an adapter became before its model was cut: digest of the whole model, in words."""

    digest: str
    said: str


@dataclass(frozen=True, kw_only=True)
class CutDetails(Sparse):
    """Of a cut: a pilot's curve, its layers, and ``facts`` that methods tell of themselves."""

    curve: Curve | None = None
    layers: tuple[CutLayer, ...] = ()
    merged_first: MergedFirst | None = None
    facts: dict[str, Any] = field(default_factory=dict, metadata=REST)


@dataclass(frozen=True, kw_only=True)
class ToldChange:
    """One measured change in words, for the whole of a model or a part of it."""

    kind: str
    name: str
    text: str


@dataclass(frozen=True, kw_only=True)
class CompareDetails(Sparse):
    """Of a comparison: every change in words."""

    changes: tuple[ToldChange, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ValidationLook:
    """A look at the validation split.

    ``train_loss`` is the mean since the look before; larger scores are better.
    """

    step: int
    train_loss: float
    validation: dict[str, float]
    score: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class MergeReport:
    """What merging did.

    ``merged`` names the base parameters that were written, ``held`` the offsets that the model
    holds now, ``left`` the parts that stay attached, with the reason. ``difference`` is the largest
    change of the output on a batch, ``output_size`` its largest value.
    """

    merged: tuple[str, ...]
    held: tuple[str, ...]
    left: dict[str, str]
    difference: float | None
    output_size: float | None


@dataclass(frozen=True, kw_only=True)
class TunedDetails(Sparse):
    """Of a tuning: the adapter, how its method was chosen, and how the training went."""

    adapter: dict[str, Any] = field(default_factory=dict)
    choice: dict[str, Any] | None = None
    best_step: int | None = None
    steps: int | None = None
    stopped_early: bool | None = None
    processes: int | None = None
    looks: tuple[ValidationLook, ...] = ()
    trained_on_from: dict[str, str] | None = None
    merge: MergeReport | None = None


@dataclass(frozen=True, kw_only=True)
class MergeDetails(Sparse):
    """Of a merge: what was written."""

    merge: MergeReport | None = None


@dataclass(frozen=True, kw_only=True)
class GroupChanged(Sparse):
    """What changed among some rows: how many answers, and how much worse the metric became.

    ``broken`` and ``mended`` count rows that became wrong and right, None for numbers.
    """

    column: str = ""
    name: str
    rows: int
    changed: Measured
    broken: int | None
    mended: int | None
    before: Number
    loss: Measured


@dataclass(frozen=True, kw_only=True)
class Moved:
    """How often one class became another."""

    from_: str
    to: str
    rows: int


@dataclass(frozen=True, kw_only=True)
class AuditDetails:
    """Of an audit of answers to sequences (see `ssmith.evaluation.behaviour.Behaviour`)."""

    metric: str
    whole: GroupChanged
    groups: dict[str, tuple[GroupChanged, ...]]
    worst: GroupChanged | None
    moves: tuple[Moved, ...]
    sizes: dict[str, Number]
    moved: Number | None
    examples: tuple[dict[str, Any], ...]


@dataclass(frozen=True, kw_only=True)
class OnWindows(Measured):
    """A number, and on how many windows of a text it was measured."""

    windows: int


@dataclass(frozen=True, kw_only=True)
class AnswersChanged:
    """How many prompts are answered otherwise, and how long prompts and answers are."""

    prompts: int
    changed: Measured
    prompt_tokens: int
    answer_tokens: int


@dataclass(frozen=True, kw_only=True)
class TextAuditDetails:
    """Of an audit of language models (see `ssmith.evaluation.behaviour_text.TextBehaviour`)."""

    agreement: OnWindows
    divergence: Measured
    answers: AnswersChanged
    examples: tuple[dict[str, Any], ...]


@dataclass(frozen=True, kw_only=True)
class LeakTold(Sparse):
    """A request that was not answered as it is alone: in words, and what is known of it."""

    text: str
    request: int | None = None
    other: int | None = None
    repeated: bool | None = None
    how: str = ""
    done: int | None = None
    difference: Number | None = None
    alone: str = ""
    together: str = ""


@dataclass(frozen=True, kw_only=True)
class CanaryDetails(Sparse):
    """Of a canary: of a model in the process, or of a server (`url` and what follows)."""

    requests: int
    cancelled: int
    leaks: tuple[LeakTold, ...]
    passed: bool
    subject: str = ""
    carries: bool | None = None
    tolerance: Number | None = None
    calls: int | None = None
    sizes: tuple[int, ...] = ()
    reused: int | None = None
    worst: Number | None = None
    url: str = ""
    model: str | None = None
    at_once: int | None = None
    ties: int | None = None
    seconds: tuple[Number, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Ends:
    """Where an interval begins and ends."""

    low: Number
    high: Number


@dataclass(frozen=True, kw_only=True)
class TrialDetails(Sparse):
    """Of a trial on a stream of rows: how it stands, and what was counted."""

    decision: str
    decided_at: int | None = None
    count: int
    mean: Number | None = None
    interval: Ends
    level: Number
    tolerance: Number
    budget: int | None = None
    method: str
    observed: str
    units: int
    rows: int
    counts: dict[str, int]
    waiting: int
    disagreement: Measured | None = None


Details = (
    CutDetails | CompareDetails | TunedDetails | MergeDetails | AuditDetails | TextAuditDetails
    | CanaryDetails | TrialDetails
)  # fmt: skip
_KINDS: dict[str, type[Details]] = {
    "compare": CompareDetails,
    "tune": TunedDetails,
    "merge": MergeDetails,
    "audit": AuditDetails,
    "canary": CanaryDetails,
    "shadow": TrialDetails,
    "ab": TrialDetails,
}


def kind_of_details(action: object, content: object) -> type[Details]:
    """Return what an action tells of itself, from its name and what JSON holds."""
    if action == "audit" and isinstance(content, dict) and "answers" in content:
        return TextAuditDetails
    return _KINDS.get(str(action), CutDetails)
