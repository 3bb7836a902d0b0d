"""What a look at new rows found, as the line of a version keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ssmith.core.sections import DataSection
from ssmith.core.settings import REST, AsDict, Sparse

_LEVEL = 0.95


@dataclass(frozen=True, kw_only=True)
class Loss:
    """A loss of the metric against the dense model, estimated or measured.

    Args:
        value: in the metric's unit; larger is worse.
        low: lower end of the interval.
        high: upper end.
        level: confidence of the interval.
    """

    value: float
    low: float
    high: float
    level: float = _LEVEL


@dataclass(frozen=True, kw_only=True)
class SiteCost:
    """One site, or a projection in it, now and at release.

    Shares are of the dense output: what the model in use lacks, what was removed carries, and the
    least that a refit of what was kept could leave, where known. ``times`` is how many times as
    much of a row's output it is on average, with an interval.
    """

    now: float | None = None
    at_release: float | None = None
    times: tuple[float, float, float] | None = None
    removed: float | None = None
    removed_at_release: float | None = None
    refit: float | None = None
    refit_at_release: float | None = None


@dataclass(frozen=True, kw_only=True)
class CutCosts:
    """All sites together, by name.

    ``disagree`` is the share of rows (of text: tokens) answered differently from the dense model,
    of numbers their mean difference; at most its upper end can the metric have lost against the
    dense model, of accuracy and mean absolute error, which needs no label. ``loss`` is what the
    curve says, ``beyond`` the share of rows whose cost is larger than any that it was measured at.
    """

    sites: Mapping[str, SiteCost]
    disagree: float
    disagree_high: float
    disagree_at_release: float
    loss: Loss | None = None
    loss_at_release: Loss | None = None
    beyond: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Drifted:
    """One reading of inputs, outputs or the cut, compared with the profile.

    ``p`` is the smallest p-value over the windows of looks, ``adjusted`` the same for all readings
    of the kind and all windows (Benjamini–Hochberg), on so many rows; ``distance`` the largest
    difference of the shares of rows up to a value, in [0, 1]; ``moved`` how far values have moved
    on average, in their own unit (Wasserstein); ``before`` and ``now`` means. Since when it has
    drifted is a time, and a row, counted from 0, where it began within this look.
    """

    kind: str
    place: str
    what: str
    alarm: bool
    p: float
    adjusted: float
    distance: float
    moved: float
    before: float
    now: float
    rows: int
    since: str | None = None
    row: int | None = None


@dataclass(frozen=True, kw_only=True)
class FoundSize(Sparse):
    """How large something is: in the task's unit, or of a drift in the reading's own."""

    value: float
    low: float | None = None
    high: float | None = None
    level: float | None = None
    unit: str
    metric: str = ""


@dataclass(frozen=True, kw_only=True)
class WatchFinding:
    """One thing to know, in a sentence: of the cut, input, output, quality, speed or coverage.

    Since when, and from which row of that look on, counted from 0; how sure and how large it is, as
    far as that is known; and what to do, the first command first.
    """

    kind: str
    alarm: bool
    what: str
    since: str | None = None
    row: int | None = None
    sure: str = ""
    size: FoundSize | None = None
    do: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class QualityNow:
    """The metric on labelled rows, and what follows: ``worse`` than promised, or ``open``.

    The decision rests on the rows of all looks, as the loss against the promise and its interval
    do, in the metric's unit; ``capped`` is the share of rows of this look whose outcome is beyond
    the bound.
    """

    metric: str
    now: float
    promised: float
    decision: str
    rows: int
    loss: float
    interval: tuple[float, float]
    capped: float


@dataclass(frozen=True, kw_only=True)
class PassCost(AsDict):
    """What one forward pass costs: median and shortest seconds, and most bytes of tensors at once.

    Of what the model was cut from as well, run in turns with it, if it was there; ``settled`` is
    whether times had settled when they began to count, ``why_not`` why nothing was measured.
    """

    seconds: float = 0.0
    least: float = 0.0
    dense: float | None = None
    dense_least: float | None = None
    settled: bool = False
    peak_bytes: int = 0
    parameter_bytes: int = 0
    rows: int = 0
    length: int = 0
    threads: int = 0
    machine: str = ""
    why_not: str = ""


@dataclass(frozen=True, kw_only=True)
class LookFound:
    """What one look, the ``number``-th at this profile, found in some of the rows there were.

    Findings are alarms first, drifts the surest of each kind; ``left`` is what was not looked at,
    with the reason.
    """

    time: str
    number: int
    rows: int
    there: int
    findings: tuple[WatchFinding, ...] = ()
    drifts: tuple[Drifted, ...] = ()
    cut: CutCosts | None = None
    quality: QualityNow | None = None
    speed: PassCost = field(default_factory=PassCost)
    left: Mapping[str, str] = field(default_factory=dict)

    @property
    def alarm(self) -> bool:
        """Whether anything found is an alarm."""
        return any(item.alarm for item in self.findings)

    @property
    def headline(self) -> str:
        """One sentence."""
        alarms = [item for item in self.findings if item.alarm]
        return alarms[0].what if alarms else "nothing has drifted"


@dataclass(frozen=True, kw_only=True)
class LookReceipt(AsDict):
    """One look that is written down: at which version, by its digest, and against which profile."""

    action: str = "watch"
    line: str
    version: str
    profile: str
    data: DataSection
    settings: dict[str, Any]
    versions: dict[str, str]
    alarm: bool
    headline: str
    look: LookFound = field(metadata=REST)
