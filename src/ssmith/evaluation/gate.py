"""The verdict: gates over measured facts, each with its reason, and one honest headline."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from ssmith.core.errors import InputError
from ssmith.core.sections import Reason, UnitRemoved, Verdict
from ssmith.core.threshold import Scale, Threshold
from ssmith.evaluation.changes import Change, percent
from ssmith.evaluation.comparison import Comparison
from ssmith.evaluation.naive import scale_of
from ssmith.evaluation.own import OwnComparison, OwnMetric
from ssmith.evaluation.parity import ParityReport

# A loss equal to the tolerance passes, also after rounding of the last bit.
_ROUNDING = 1e-12
# Whoever gives fewer answers right has nothing to lose that chance would not.
_RECALLS = 0.1


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a user accepts.

    Args:
        max_loss: largest loss of the metric (see `ssmith.core.threshold`).
        own_max_loss: largest loss of the user's own metric, as above; None reports without judging.
        min_gain: fraction by which size, memory or time must fall, in (0, 1).
        max_recall_loss: largest loss of any task of recall that the model before knew, as above.
        proof: accept only if the upper bound of the loss is within ``max_loss`` as well.
        allow_copies: accept what was measured on rows that were learned or chosen on as well.
    """

    max_loss: float | int | str = 0.005
    own_max_loss: float | int | str | None = None
    max_recall_loss: float | int | str = "5 points"
    min_gain: float = 0.05
    proof: bool = False
    allow_copies: bool = False

    def __post_init__(self) -> None:
        """Check the limits."""
        Threshold.read(self.max_loss)
        Threshold.read(self.max_recall_loss, "max_recall_loss")
        if self.own_max_loss is not None:
            Threshold.read(self.own_max_loss, "own_max_loss")
        if not 0 < self.min_gain < 1:
            raise InputError(f"min_gain is {self.min_gain}", allowed="between 0 and 1")


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What was measured; ``copies`` says which rows are in several splits, if any are."""

    comparison: Comparison
    parity: ParityReport
    changes: tuple[Change, ...]
    removed: Mapping[str, UnitRemoved]
    own: OwnComparison | None = None
    recall: Mapping[str, Comparison] = field(default_factory=dict)
    copies: str = ""


def judge(evidence: Evidence, limits: Limits) -> Verdict:
    """Judge a change: accepted if every gate passes.

    Quality passes if the measured loss is at most ``max_loss``; it is called proven only if
    also the upper end of the loss's one-sided interval is (with ``proof``, that is required). From
    a model that is no better than a naive answer no cut is accepted, and no gain by a time that
    was still changing, or whose samples before and after overlap.
    """
    reasons = [
        _quality(evidence.comparison, limits),
        *_base(evidence.comparison),
        _parity(evidence.parity),
        _gain(evidence.changes, limits.min_gain),
    ]
    if evidence.copies:
        reasons.append(Reason(gate="copies", passed=limits.allow_copies, text=evidence.copies))
    if evidence.recall:
        reasons.append(_recall(evidence.recall, limits.max_recall_loss))
    if evidence.own is not None:
        reasons.append(_own(evidence.own, limits.own_max_loss))
    failed = [item.gate for item in reasons if not item.passed]
    return Verdict(
        accepted=not failed,
        headline=_headline(evidence, failed, limits.min_gain),
        reasons=tuple(reasons),
    )


def value_text(comparison: Comparison, value: float) -> str:
    """Return a metric's value for people: a share in percent, else four digits."""
    return f"{100 * value:.1f} %" if comparison.metric.proportion else f"{value:.4g}"


def _loss_text(comparison: Comparison, loss: float | int, other: float | int) -> str:
    """Return a loss for people, with as many digits as tell it from another one."""
    factor, unit = 1, ""
    if comparison.metric.proportion:
        factor, unit = 100, " points"
    elif comparison.metric.relative:
        factor, unit = 100, " %"
    texts = [""]
    for digits in range(3, 16):
        # "+ 0.0" turns a negative zero into zero.
        texts = [f"{factor * item + 0.0:.{digits}g}{unit}" for item in (loss, other)]
        if texts[0] != texts[1] or loss == other:
            break
    return texts[0]


def allowed_loss(comparison: Comparison, max_loss: float | int | str) -> float:
    """Return a tolerance as `Comparison.loss` has losses."""
    before = comparison.before
    scale = scale_of(comparison.metric, before.value, before.naive)
    allowed = Threshold.read(max_loss).loss(scale)
    return allowed / abs(before.value) if comparison.metric.relative else allowed


def _quality(comparison: Comparison, limits: Limits) -> Reason:
    allowed = allowed_loss(comparison, limits.max_loss)
    upper = comparison.loss_upper_bound
    noun, before = comparison.metric.counted, comparison.before
    within = comparison.loss <= allowed + _ROUNDING
    proven = upper is not None and upper <= allowed + _ROUNDING
    scale = scale_of(comparison.metric, before.value, before.naive)
    copies = "" if before.different == comparison.count else f" ({before.different} different)"
    text = (
        f"{comparison.metric.name} {value_text(comparison, before.value)} → "
        f"{value_text(comparison, comparison.after.value)} on {comparison.count} {noun}{copies}: "
        f"loss {_loss_text(comparison, comparison.loss, allowed)}, allowed "
        f"{_loss_text(comparison, allowed, comparison.loss)}{_counts(comparison, allowed)} "
        f"({comparison.p_test}: p = {comparison.p:.2g}). "
    )
    said = Threshold.read(limits.max_loss).said(scale)
    text += (
        "" if said.startswith(_loss_text(comparison, allowed, allowed)) else f"Allowed: {said}. "
    )
    text += _sure(comparison, allowed, within=within, proven=proven)
    return Reason(gate="quality", passed=within and (proven or not limits.proof), text=text)


def _recall(recall: Mapping[str, Comparison], max_loss: float | int | str) -> Reason:
    """Return whether what stood far back is still known; perplexity hardly shows it."""
    told, passed = [], True
    for name, item in recall.items():
        line = f"{name} {value_text(item, item.before.value)} → "
        line += value_text(item, item.after.value)
        if item.before.value < _RECALLS:
            line += " (not judged: the model before hardly knew it)"
        elif item.loss > allowed_loss(item, max_loss) + _ROUNDING:
            passed = False
            line += " (too much)"
        told.append(line)
    first = next(iter(recall.values()))
    allowed = _loss_text(first, allowed_loss(first, max_loss), 0)
    text = f"Recall on {first.count} texts each: {', '.join(told)}; allowed loss {allowed}."
    if not passed:
        text += " Cut less, or accept it with a larger max_recall_loss."
    return Reason(gate="recall", passed=passed, text=text)


def _sure(comparison: Comparison, allowed: float, *, within: bool, proven: bool) -> str:
    """Return what the interval says of a loss."""
    level = f"{100 * comparison.difference.level:g} %"
    lower, upper = comparison.loss_lower_bound, comparison.loss_upper_bound
    if upper is None or lower is None:
        return f"{comparison.difference.method.capitalize()}, so nothing is proven."
    if not within and lower <= 0:
        return f"Models that are equally good can differ by so much by chance ({level})."
    if not within:
        least = f"The true loss is at least {_loss_text(comparison, lower, allowed)} ({level} sure)"
        return f"{least}{'.' if lower > allowed else ', so chance alone could explain the excess.'}"
    most = _loss_text(comparison, upper, allowed)
    if proven:
        return f"Proven: the true loss is at most {most} ({level} sure)."
    needed = _needed(comparison, allowed)
    return f"Not proven: the true loss may be up to {most} ({level} sure). {needed}"


def _counts(comparison: Comparison, allowed: float) -> str:
    """Return what a loss is in rows, where rows are right or wrong."""
    table, units = comparison.agreement, comparison.before.different
    if table is None:
        return ""
    more = table.only_before - table.only_after
    more = more if comparison.metric.higher_is_better else -more
    most = math.floor(allowed * units + 1e-9)
    word = "more wrong" if more >= 0 else "fewer wrong"
    return f": {abs(more)} of {units} {word}; {most} allowed"


def _base(comparison: Comparison) -> list[Reason]:
    """Return whether there was anything to lose."""
    before = comparison.before
    if before.naive is None:
        return []
    metric, naive = comparison.metric, before.naive
    message = naive.finding(metric, before.value, before.low, before.high)
    against = f"{metric.name} {value_text(comparison, before.value)} before any change against "
    against += f"{value_text(comparison, naive.value)} of {naive.answer}."
    text = f"{message[:1].upper()}{message[1:]}." if message else against[:1].upper() + against[1:]
    return [Reason(gate="base", passed=not naive.beats(metric, before.value), text=text)]


def _needed(comparison: Comparison, max_loss: float | int) -> str:
    count = comparison.count_to_prove(max_loss)
    if count is None:
        return "With this loss no larger test set would prove it."
    noun = comparison.metric.counted
    return f"The test set is too small: about {count} {noun} that behave alike would prove it."


def _parity(parity: ParityReport) -> Reason:
    checks = [f"{item.name} {item.worst:.1e}" for item in parity.measured if item.worst is not None]
    missing = [f"{item.name}: {item.why_null}" for item in parity.checks if item.worst is None]
    if not checks:
        text = "Nothing was compared"
    elif parity.failed:
        beyond = ", ".join(
            f"{item.name} {item.worst:.1e} > {item.tolerance:.0e}" for item in parity.failed
        )
        text = f"Beyond the tolerance in {parity.dtype}: {beyond}"
    else:
        text = f"Largest absolute differences in {parity.dtype}: {', '.join(checks)}"
    text += f". Not measured: {'; '.join(missing)}." if missing else "."
    return Reason(gate="parity", passed=parity.passed, text=text)


def _gain(changes: tuple[Change, ...], min_gain: float) -> Reason:
    whole = [item for item in changes if item.whole]
    gains = [item for item in whole if item.sure and item.fall >= min_gain]
    if gains:
        return Reason(gate="gain", passed=True, text=f"{'; '.join(item.text for item in gains)}.")
    measured = "; ".join(
        item.text + ("" if item.sure else " (not settled, so that it does not count)")
        for item in whole
    )
    return Reason(
        gate="gain",
        passed=False,
        text=f"Neither size, memory nor time fell by {percent(min_gain)}: "
        f"{measured or 'nothing was measured'}.",
    )


def _own(own: OwnComparison, max_loss: float | int | str | None) -> Reason:
    interval = "no interval" if own.low is None else f"{own.low:.4g} to {own.high:.4g}"
    text = (
        f"{own.metric.name}: {own.before:.4g} → {own.after:.4g}, difference "
        f"{own.after - own.before:.4g} ({interval}; {own.interval})"
    )
    if max_loss is None:
        return Reason(
            gate="own metric",
            passed=True,
            text=f"{text}; reported, not judged: no tolerance given.",
        )
    passed, said = within_own(own.metric, own.before, own.after, max_loss)
    return Reason(gate="own metric", passed=passed, text=f"{text}; {said}.")


def within_own(
    metric: OwnMetric, before: float, after: float, max_loss: float | int | str
) -> tuple[bool, str]:
    """Return whether the loss of an own metric is within what is allowed, and that in words."""
    threshold = Threshold.read(max_loss, "own_max_loss")
    scale = Scale(metric=metric.name, dense=before)
    loss, allowed = metric.loss(before, after), threshold.loss(scale)
    said = f"loss {loss:.4g}, allowed {allowed:.4g} ({threshold.said(scale)})"
    return loss <= allowed + _ROUNDING, said


def _headline(evidence: Evidence, failed: list[str], min_gain: float) -> str:
    """Name the failures first, then the biggest measured facts; never an unmeasured gain."""
    facts = [
        # What was asked for is met to the nearest unit, and 29.99 % is 30.
        f"{percent(item.fraction + 1e-4)} of {unit} removed"
        for unit, item in evidence.removed.items()
        if item.fraction > 0
    ] or ["nothing removed"]
    comparison = evidence.comparison
    facts.append(
        f"{comparison.metric.name} {value_text(comparison, comparison.before.value)} → "
        f"{value_text(comparison, comparison.after.value)}"
    )
    shown = [
        item for item in evidence.changes if item.whole and item.sure and abs(item.fall) >= min_gain
    ]
    facts += [item.text for item in sorted(shown, key=lambda item: -abs(item.fall))]
    other = [gate for gate in failed if gate != "gain"]
    prefix = f"Not accepted ({', '.join(other)}): " if other else ""
    if "gain" in failed:
        prefix += f"No gain: neither size, memory nor time fell by {percent(min_gain)}; "
    return prefix + "; ".join(facts)
