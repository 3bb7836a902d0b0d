"""The verdict: gates over measured facts, each with its reason, and one honest headline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ssmith.core.errors import InputError
from ssmith.core.settings import AsDict
from ssmith.evaluation.changes import Change, percent
from ssmith.evaluation.comparison import Comparison
from ssmith.evaluation.own import OwnComparison
from ssmith.evaluation.parity import ParityReport

# A loss equal to the tolerance passes, also after rounding of the last bit.
_ROUNDING = 1e-12


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a user accepts.

    Args:
        max_loss: largest loss of the metric, in its own unit, ≥ 0.
        own_max_loss: largest loss of the user's own metric, ≥ 0; None reports without judging.
        min_gain: fraction by which size, memory or time must fall, in (0, 1).
        proof: accept only if the upper bound of the loss is within ``max_loss`` as well.
    """

    max_loss: float | int = 0.005
    own_max_loss: float | int | None = None
    min_gain: float = 0.05
    proof: bool = False

    def __post_init__(self) -> None:
        """Check the limits."""
        losses = [self.max_loss, 0.0 if self.own_max_loss is None else self.own_max_loss]
        if not all(item >= 0 for item in losses):
            raise InputError(f"tolerances are {losses}", allowed="numbers ≥ 0")
        if not 0 < self.min_gain < 1:
            raise InputError(f"min_gain is {self.min_gain}", allowed="between 0 and 1")


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What was measured."""

    comparison: Comparison
    parity: ParityReport
    changes: tuple[Change, ...]
    removed: Mapping[str, Mapping[str, Any]]
    own: OwnComparison | None = None


@dataclass(frozen=True, kw_only=True)
class Reason:
    """What one gate says."""

    gate: str
    passed: bool
    text: str


@dataclass(frozen=True, kw_only=True)
class Verdict(AsDict):
    """Whether a change is accepted.

    The headline names the biggest measured facts, failures first.
    """

    accepted: bool
    headline: str
    reasons: tuple[Reason, ...]


def judge(evidence: Evidence, limits: Limits) -> Verdict:
    """Judge a change: accepted if every gate passes.

    Quality passes if the measured loss is at most ``max_loss``; it is called proven only if
    also the upper end of the loss's one-sided interval is (with ``proof``, that is required).
    """
    reasons = [
        _quality(evidence.comparison, limits),
        _parity(evidence.parity),
        _gain(evidence.changes, limits.min_gain),
    ]
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


def _loss_text(comparison: Comparison, loss: float | int) -> str:
    # "+ 0.0" turns a negative zero into zero.
    if comparison.metric.proportion:
        return f"{round(100 * loss, 2) + 0.0:.2f} points"
    if comparison.metric.relative:
        return f"{round(100 * loss, 2) + 0.0:.2f} %"
    return f"{loss + 0.0:.4g}"


def _quality(comparison: Comparison, limits: Limits) -> Reason:
    def show(loss: float | int) -> str:
        return _loss_text(comparison, loss)

    level = f"{100 * comparison.difference.level:g} %"
    allowed, upper = limits.max_loss + _ROUNDING, comparison.loss_upper_bound
    noun = comparison.metric.counted
    within, proven = comparison.loss <= allowed, upper <= allowed
    text = (
        f"{comparison.metric.name} {value_text(comparison, comparison.before.value)} → "
        f"{value_text(comparison, comparison.after.value)} on {comparison.count} {noun}: "
        f"loss {show(comparison.loss)}, allowed {show(limits.max_loss)} "
        f"({comparison.p_test}: p = {comparison.p:.2g}). "
    )
    if not within:
        sure = comparison.loss_lower_bound > allowed
        text += f"The true loss is at least {show(comparison.loss_lower_bound)} ({level} sure)"
        text += "." if sure else ", so chance alone could explain the excess."
    elif proven:
        text += f"Proven: the true loss is at most {show(upper)} ({level} sure)."
    else:
        text += f"Not proven: the true loss may be up to {show(upper)} ({level} sure). "
        text += _needed(comparison, limits.max_loss)
    return Reason(gate="quality", passed=within and (proven or not limits.proof), text=text)


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
    gains = [item for item in whole if item.fall >= min_gain]
    if gains:
        return Reason(gate="gain", passed=True, text=f"{'; '.join(item.text for item in gains)}.")
    measured = "; ".join(item.text for item in whole) or "nothing was measured"
    return Reason(
        gate="gain",
        passed=False,
        text=f"Neither size, memory nor time fell by {percent(min_gain)}: {measured}.",
    )


def _own(own: OwnComparison, max_loss: float | int | None) -> Reason:
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
    passed = own.loss <= max_loss + _ROUNDING
    return Reason(
        gate="own metric",
        passed=passed,
        text=f"{text}; loss {own.loss:.4g}, allowed {max_loss:.4g}.",
    )


def _headline(evidence: Evidence, failed: list[str], min_gain: float) -> str:
    """Name the failures first, then the biggest measured facts; never an unmeasured gain."""
    facts = [
        # What was asked for is met to the nearest unit, and 29.99 % is 30.
        f"{percent(item['fraction'] + 1e-4)} of {unit} removed"
        for unit, item in evidence.removed.items()
        if item["fraction"] > 0
    ] or ["nothing removed"]
    comparison = evidence.comparison
    facts.append(
        f"{comparison.metric.name} {value_text(comparison, comparison.before.value)} → "
        f"{value_text(comparison, comparison.after.value)}"
    )
    shown = [item for item in evidence.changes if item.whole and abs(item.fall) >= min_gain]
    facts += [item.text for item in sorted(shown, key=lambda item: -abs(item.fall))]
    other = [gate for gate in failed if gate != "gain"]
    prefix = f"Not accepted ({', '.join(other)}): " if other else ""
    if "gain" in failed:
        prefix += f"No gain: neither size, memory nor time fell by {percent(min_gain)}; "
    return prefix + "; ".join(facts)
