"""The rules of a policy, each held against what a line knows of a version."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from ssmith.core.errors import InputError
from ssmith.core.threshold import Threshold
from ssmith.release import findings
from ssmith.release.approvals import signers
from ssmith.release.case import BYTES, ROUNDING, Case, Rule
from ssmith.release.disk import hex_of
from ssmith.release.manifest import faults, kept_manifest
from ssmith.release.moments import moment_of, parsed
from ssmith.release.policy import ANY
from ssmith.release.version import VERSIONS


def check(case: Case) -> tuple[Rule, ...]:
    """Hold every rule that the policy asks for against a version, in the order of the policy."""
    found = (rule(case) for rule in _RULES)
    return tuple(item for item in found if item is not None)


def whole(case: Case) -> Rule:
    """Say whether every file of a version is as it was added."""
    asked = "every file is as it was added"
    digests = [case.version.digest, *([case.version.base] if case.version.base else [])]
    for digest in digests:
        directory = case.root / VERSIONS / hex_of(digest)
        wrong = next(faults(directory, kept_manifest(case.root, digest)), None)
        if wrong is not None:
            return Rule(name=BYTES, asked=asked, found=f"{directory / wrong[0]} {wrong[1]}",
                        passed=False, settle=f"ssmith release verify {case.line}")  # fmt: skip
    return Rule(name=BYTES, asked=asked, found="they are", passed=True)


def _verdict(case: Case) -> Rule | None:
    if case.policy.max_loss == ANY or case.judged is None:
        return None
    verdict = case.judged[1].verdict
    if verdict.accepted is None:
        return None
    return Rule(
        name="verdict",
        asked="the verdict of its own receipt is yes",
        found=verdict.headline or "no reason is given",
        passed=verdict.accepted,
        settle="" if verdict.accepted else case.compare,
    )


def _data(case: Case) -> Rule | None:
    asked = case.policy.sha256
    if asked is None:
        return None
    found = "" if case.judged is None else case.judged[1].data.sha256
    return Rule(
        name="data",
        asked=f"judged on data {asked}",
        found=f"judged on data {found}" if found else "no comparison",
        passed=found == asked,
        settle="" if found == asked else case.compare,
    )


def _max_loss(case: Case) -> Rule | None:
    return None if case.policy.max_loss == ANY else _loss(case, "max_loss", bound=False)


def _proof(case: Case) -> Rule | None:
    wanted = case.policy.proof and case.policy.max_loss != ANY
    return _loss(case, "proof", bound=True) if wanted else None


def _loss(case: Case, name: str, *, bound: bool) -> Rule:
    what = "proven loss" if bound else "measured loss"
    asked = f"{what} at most {case.policy.max_loss}"
    quality = case.quality
    if quality is None:
        why = "there is nothing to compare with: it was made from no other model, and none is live"
        found = why if case.is_first else "no comparison"
        settle = "" if case.is_first else case.compare
        return Rule(name=name, asked=asked, found=found, passed=case.is_first, settle=settle)
    try:
        allowed = Threshold.read(case.policy.max_loss).loss(quality.scale)
    except InputError as error:
        return Rule(name=name, asked=asked, found=error.what, passed=False,
                    settle=f"ssmith release policy {case.line} --set policy.toml")  # fmt: skip
    loss = quality.upper if bound else quality.loss
    passed = loss <= allowed + ROUNDING
    return Rule(
        name=name,
        asked=f"{asked} ({quality.told(allowed)})",
        found=f"{quality.told(loss)} ({quality.text})",
        passed=passed,
        settle="" if passed else case.compare,
    )


def _parity(case: Case) -> Rule | None:
    if not case.policy.parity:
        return None
    passed, found = False, "nothing"
    for entry in case.version.evidence[::-1]:
        receipts = (case.version.kept(digest) for digest in reversed(entry.receipts))
        noted = entry.details.get("parity", {}).get("passed")
        known = [noted, *(item.parity.passed for item in receipts)]
        said = next((item for item in known if item is not None), None)
        if said is not None:
            passed = said is True
            found = f"it {'does' if passed else 'does not'}, by entry {entry.index}"
            break
    return Rule(
        name="parity",
        asked="every way to run it gives the same numbers",
        found=found,
        passed=passed,
        settle="" if passed else f"ssmith release parity {case.shown}",
    )


def _age(case: Case) -> Rule | None:
    most = case.policy.verdict_age_days
    if ANY in (most, case.policy.max_loss) or case.judged is None:
        return None
    entry, receipt = case.judged
    made = _when(receipt.time)
    found, passed = "its receipt does not say when it was made", False
    if made is not None:
        # Whatever the clock showed there, it was made before it was brought.
        days = (case.now - min(made, parsed(entry.time))).total_seconds() / 86400
        found, passed = f"{days:.1f} days ago", days <= float(most)
    return Rule(
        name="verdict_age_days",
        asked=f"compared within {float(most):g} days",
        found=found,
        passed=passed,
        settle="" if passed else case.compare,
    )


def _when(said: str | None) -> datetime | None:
    """Return the time that a receipt gives; None if it gives none with its time zone."""
    try:
        return None if said is None else moment_of(said)
    except InputError:
        return None


_RULES: tuple[Callable[[Case], Rule | None], ...] = (
    whole, _verdict, _data, _max_loss, _proof, _parity, _age, findings.slices, findings.flips,
    findings.canary, findings.shadow, signers,
)  # fmt: skip
