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
    """One site, or a projection in it.

    Args:
        now: share of the dense output that the model in use lacks, on these rows.
        at_release: the same at release.
        times: how many times as much of a row's output it is on average, with an interval.
        removed: share of the dense output that what was removed carries.
        removed_at_release: the same at release.
        refit: least share that a refit of what was kept could leave; None where not known.
        refit_at_release: the same at release.
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
    """All sites together.

    Args:
        sites: by name.
        disagree: share of rows (of text: tokens) answered differently from the dense model; of
            numbers their mean difference.
        disagree_high: upper end of its interval: without any label, what the metric can have lost
            against the dense model is at most this, of accuracy and mean absolute error.
        disagree_at_release: the same at release.
        loss: what the curve says the metric loses against the dense model; None without a curve.
        loss_at_release: the same for the rows of the profile.
        beyond: share of rows whose cost is larger than any that the curve was measured at.
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
    """One reading, compared with the profile.

    Args:
        kind: input, output or cut.
        place: channel, site, class, …
        what: the number that was read.
        alarm: whether it has drifted.
        p: smallest p-value over the windows of looks.
        adjusted: the same, for all readings of the kind and all windows (Benjamini–Hochberg).
        distance: largest difference of the shares of rows up to a value, in [0, 1].
        moved: how far values have moved on average, in their own unit (Wasserstein).
        before: mean in the profile.
        now: mean over the rows of this look.
        rows: rows the p-value rests on.
        since: time of the look since when it has drifted; None where it has not.
        row: the row of this look since when, counted from 0, where it began within it.
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
    """One thing to know.

    Args:
        kind: cut, input, output, quality, speed or coverage.
        alarm: whether it is one, or only to be known.
        what: one sentence.
        since: time of the look since when; None if nothing changed.
        row: row of the look since when, counted from 0, where it began within it.
        sure: how sure it is, in words.
        size: how large; None where not known.
        do: commands, the first one first.
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
    """The metric on labelled rows, and what follows.

    Args:
        metric: its name.
        now: on the rows of this look.
        promised: at release.
        decision: ``worse`` than promised, or ``open``.
        rows: that the decision rests on, of all looks.
        loss: how much worse than promised the mean of all looks is, in the metric's unit.
        interval: of the loss, at all looks together.
        capped: share of rows of this look whose outcome is beyond the bound.
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
    """What one forward pass costs.

    Args:
        seconds: median of a pass of the network in use.
        least: its shortest.
        dense: median of what it was cut from, run in turns with it; None if it was not there.
        dense_least: its shortest.
        settled: whether times had settled when they began to count.
        peak_bytes: most bytes of tensors alive at once in a pass.
        parameter_bytes: bytes of parameters.
        rows: rows of the pass.
        length: their steps.
        threads: of the CPU.
        machine: that it ran on.
        why_not: why it was not measured; empty if it was.
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
    """What one look found.

    Args:
        time: UTC.
        number: of the look at this profile, from 1.
        rows: that were looked at.
        there: rows there were.
        findings: alarms first.
        drifts: the surest of each kind.
        cut: costs of the cut; None where they are not known.
        quality: the metric; None without labels.
        speed: seconds and bytes.
        left: what was not looked at, with the reason.
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
    """One look that is written down.

    Args:
        action: what was done.
        line: name of the line.
        version: digest of the version.
        profile: name of what the rows were held against.
        data: the rows.
        settings: of the watch.
        versions: of packages, and the machine.
        alarm: whether anything found is an alarm.
        headline: one sentence.
        look: what was found.
    """

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
