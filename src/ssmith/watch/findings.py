"""What a look found, in words: what, since when, how sure, how large, and what to do."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from ssmith.core.looks import (
    CutCosts,
    Drifted,
    FoundSize,
    Loss,
    QualityNow,
    SiteCost,
    WatchFinding,
)
from ssmith.core.words import number_of
from ssmith.evaluation.metrics import Metric

_MOST = 5
RECOVERABLE = 0.5
"""A refit that leaves less than this share of what is lacking is worth it."""


@dataclass(frozen=True, kw_only=True)
class Commands:
    """What can be done, as command lines, about a version in a place and new rows.

    ``labelled`` also of every text; ``dense`` is what it was cut from, as a user names it, empty if
    not known; ``earlier`` whether there is an earlier version to go back to.
    """

    line: str = ""
    place: str = ""
    version: str = ""
    data: str = ""
    labelled: bool = False
    text: bool = False
    dense: str = ""
    cuts: tuple[str, ...] = ()
    earlier: bool = False

    @property
    def recalibrate(self) -> str:
        """Cut what the model was cut from again, on the new rows, which needs no labels."""
        words = ("ssmith", "prune", self.dense, *self.cuts, "--data", self.data, "--split", "all")
        return shlex.join([*words, "--out", "recalibrated"])

    @property
    def tune(self) -> str:
        """Train the version further on the new rows."""
        method = "state-offset-h" if self.text else "state-offset-y"
        words = ("ssmith", "tune", self.place, "--method", method, "--data", self.data)
        return shlex.join([*words, "--out", "tuned"])

    @property
    def roll_back(self) -> str:
        """Go back to the version before."""
        return f"ssmith release rollback {shlex.quote(self.line)} --reason 'watch: {{what}}'"

    @property
    def profile(self) -> str:
        """Take the new rows as the new normal."""
        words = ["ssmith", "watch", self.line, "--take", "--data", self.data]
        words += [] if self.labelled else ["--unlabelled"]
        return shlex.join([*words, "--version", self.version])

    def back(self, what: str) -> tuple[str, ...]:
        """Return the command to roll back, where there is something to go back to."""
        return (self.roll_back.format(what=what),) if self.earlier else ()


def of_cut(
    drifts: Sequence[Drifted], costs: CutCosts | None, metric: Metric | None, can: Commands
) -> list[WatchFinding]:
    """Return what is to be said of the cut."""
    own = [item for item in drifts if item.kind == "cut" and item.alarm]
    if not own or costs is None:
        return []
    sites = {name: site for name, site in costs.sites.items() if site.now is not None}
    drifted = {item.place for item in own} & sites.keys()
    worst = max(drifted, key=lambda name: _times(sites[name]), default="")
    what = _cut_words(worst, sites.get(worst))
    size = None
    if costs.loss is not None and metric is not None:
        size = FoundSize(**vars(costs.loss), unit=unit_of(metric), metric=metric.name)
        beyond = f", or more: {costs.beyond:.0%} of the rows cost more than any at release"
        more = beyond if costs.beyond > 0.05 else ""
        what += f"; that points to {loss_words(costs.loss, metric)}{more}"
    what += f"; answers differ from the dense model's {_disagreement(costs, metric)}"
    first = own[0]
    refitted = any(
        site.refit is not None and site.now is not None and site.refit < RECOVERABLE * site.now
        for site in sites.values()
    )
    do = ((can.recalibrate,) if can.dense else ()) + can.back("the cut is no longer right")
    if refitted and can.dense:
        what += "; a refit of the same states on the new rows would take most of it back"
    return [
        WatchFinding(
            kind="cut", alarm=True, what=what, since=first.since, row=first.row,
            sure=sure_of(first), size=size, do=do,
        )
    ]  # fmt: skip


def of_drifts(
    kind: str, drifts: Sequence[Drifted], *, cut: bool | None, can: Commands
) -> list[WatchFinding]:
    """Return what is to be said of inputs, or of answers: one finding a place, at most five.

    ``cut``: whether the cut costs more as well; None if none is watched.
    """
    by_place: dict[str, list[Drifted]] = {}
    for item in drifts:
        if item.kind == kind and item.alarm:
            by_place.setdefault(item.place, []).append(item)
    do = (can.profile,)
    if cut:
        do = (*((can.tune,) if can.labelled else ()), *can.back(f"{kind} drift"))
    found = [
        WatchFinding(
            kind=kind, alarm=True, what=_drift_words(own, cut=cut), since=own[0].since,
            row=own[0].row, sure=sure_of(own[0]), do=do,
            size=FoundSize(value=own[0].moved, unit=f"of {own[0].place}, {own[0].what}"),
        )
        for own in by_place.values()
    ]  # fmt: skip
    if len(found) > _MOST:
        more = WatchFinding(
            kind=kind, alarm=True,
            what=f"{number_of(len(found) - _MOST, 'other place')} drifted as well, less surely",
        )  # fmt: skip
        found = [*found[:_MOST], more]
    return found


def of_quality(
    quality: QualityNow | None, metric: Metric | None, can: Commands
) -> list[WatchFinding]:
    """Return what is to be said of the metric."""
    if quality is None or metric is None:
        return []
    loss = Loss(value=quality.loss, low=quality.interval[0], high=quality.interval[1])
    worse = quality.decision == "worse"
    what = (
        f"{quality.metric} is {quality.now:.4g} on these rows, {quality.promised:.4g} was promised"
        f"; over {number_of(quality.rows, 'labelled row')}: {loss_words(loss, metric)}"
    )
    if not worse:
        what += "; not proven worse than promised"
    return [
        WatchFinding(
            kind="quality", alarm=worse, what=what,
            sure="holds at all looks together" if worse else "",
            size=FoundSize(value=loss.value, low=loss.low, high=loss.high,
                           unit=unit_of(metric), metric=quality.metric),
            do=(*can.back("quality below its promise"), can.tune) if worse else (),
        )
    ]  # fmt: skip


def loss_words(loss: Loss, metric: Metric) -> str:
    """Return a loss with its interval in the unit of the task."""
    factor = 100.0 if metric.proportion or metric.relative else 1.0
    value, low, high = (factor * item for item in (loss.value, loss.low, loss.high))
    return f"a loss of {value:.3g} {unit_of(metric)} of {metric.name} [{low:.3g}, {high:.3g}]"


def unit_of(metric: Metric) -> str:
    """Return the unit that losses of a metric are told in."""
    if metric.proportion:
        return "points"
    return "%" if metric.relative else "units"


def sure_of(drift: Drifted) -> str:
    """Return how sure a drift is."""
    return (
        f"p = {drift.p:.2g} on {number_of(drift.rows, 'row')}, {drift.adjusted:.2g} for all that "
        "was tested"
    )


def _drift_words(own: Sequence[Drifted], *, cut: bool | None) -> str:
    first = own[0]
    others = ", ".join(item.what for item in own[1:4])
    what = (
        f"{first.place}: {first.what} is {first.now:.4g} on average, {first.before:.4g} at release"
        f" ({first.distance:.0%} of the rows differ)"
    )
    if others:
        what += f"; so do {others}"
    return f"{what}; the cut costs no more than at release" if cut is False else what


def _times(site: SiteCost) -> float:
    return 0.0 if site.times is None else site.times[0]


def _site_words(name: str, site: SiteCost) -> str:
    shares = f"({100 * (site.now or 0):.2g} % of it, {100 * (site.at_release or 0):.2g} % then)"
    words = f"{name} {shares}"
    if site.times is not None:
        value, low, high = site.times
        times = f"{value:.3g} times as much of {name}'s output on a row [{low:.3g}, {high:.3g}]"
        words = f"{times} {shares}"
    if site.removed is not None and site.removed_at_release is not None:
        words += (
            f"; what was removed would now carry {100 * site.removed:.3g} % of its output, "
            f"{100 * site.removed_at_release:.3g} % at release"
        )
    return words


def _cut_words(name: str, site: SiteCost | None) -> str:
    """Return where the cut costs more; of none, that answers differ more often."""
    if site is None:
        return (
            "the model answers differently from the one it was cut from more often than at release"
        )
    words = _site_words(name, site)
    # A drift is found where larger costs are more frequent, whatever their mean does.
    if 0 < _times(site) <= 1:
        on = "on part of the rows, though less on average"
        return f"the cut costs more than at release {on}: {words}"
    return f"the cut costs more than at release: {words}"


def _disagreement(costs: CutCosts, metric: Metric | None) -> str:
    if metric is not None and not metric.proportion and not metric.relative:
        return f"by {costs.disagree:.3g} on average, {costs.disagree_at_release:.3g} at release"
    words = f"{costs.disagree:.1%} of the time, {costs.disagree_at_release:.1%} at release"
    if metric is not None and metric.proportion:
        words += f", so no more than {100 * costs.disagree_high:.2g} points can be lost to the cut"
    return words
