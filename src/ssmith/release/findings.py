"""Rules about what others found out, read from the newest entry of its kind about the version.

Of a ``canary`` the details say ``requests`` and ``passed``; of ``shadow`` ``rows`` and
``disagreement``; of an ``audit`` ``flips`` and under ``slices``, by column, the groups:
``{"slice": name, "before": value, "loss": value}``, in the unit of the ``metric``
(``{"name": …, "share": …, "relative": …}``).
"""

from __future__ import annotations

from ssmith.core.threshold import Scale, Threshold
from ssmith.release.case import ROUNDING, Case, Rule
from ssmith.release.log import Entry
from ssmith.release.policy import share_of
from ssmith.release.version import short

_NOTHING = "nothing"


def slices(case: Case) -> Rule | None:
    """No group loses more than the policy allows."""
    asked = case.policy.slices
    if asked is None:
        return None
    words = f"no {asked.column} loses more than {asked.max_loss}"
    entry = case.newest("audit")
    groups = None if entry is None else (entry.details.get("slices") or {}).get(asked.column)
    settle = _audit(case, f" --by {asked.column}")
    if entry is None or not groups:
        return Rule(name="slices", asked=words, found="no audit by it", passed=False, settle=settle)
    metric = entry.details.get("metric") or {}
    beyond = []
    for item in groups:
        scale = Scale(
            metric=str(metric.get("name", "metric")), share=bool(metric.get("share")),
            relative=bool(metric.get("relative")), dense=float(item["before"]),
        )  # fmt: skip
        allowed = Threshold.read(asked.max_loss).loss(scale)
        if float(item["loss"]) > allowed + ROUNDING:
            beyond.append(item)
    worst = max(groups, key=lambda item: float(item["loss"]))
    return Rule(
        name="slices",
        asked=words,
        found=f"{len(beyond)} of {len(groups)} do; the worst is {worst['slice']}, which loses "
        f"{float(worst['loss']):.4g}",
        passed=not beyond,
        settle=settle if beyond else "",
    )


def flips(case: Case) -> Rule | None:
    """No more answers change than the policy allows, right or wrong."""
    if case.policy.flips is None:
        return None
    most = share_of(case.policy.flips, "flips")
    return _share("flips", "answers that change", most, case.newest("audit"), _audit(case))


def canary(case: Case) -> Rule | None:
    """Enough interleaved requests each equal their run alone."""
    asked = case.policy.canary
    if asked is None:
        return None
    entry = case.newest("canary")
    count = 0 if entry is None else int(entry.details.get("requests", 0))
    clean = entry is not None and entry.details.get("passed") is True
    passed = clean and count >= asked.requests
    found = (
        _NOTHING if entry is None else f"{count} requests, " + ("none" if clean else "some leaked")
    )
    return Rule(
        name="canary",
        asked=f"{asked.requests} interleaved requests, each equal to its run alone",
        found=found if not clean else f"{count} requests, all equal",
        passed=passed,
        settle=""
        if passed
        else f"ssmith canary {case.version.path} --requests {asked.requests} --line {case.root}",
    )


def shadow(case: Case) -> Rule | None:
    """Enough live traffic was answered by both, and alike enough."""
    asked = case.policy.shadow
    if asked is None:
        return None
    entry = case.newest("shadow")
    rows = 0 if entry is None else int(entry.details.get("rows", 0))
    settle = f"ssmith trial shadow --line {case.root} --new {short(case.version.digest)}"
    if rows < asked.at_least:
        return Rule(name="shadow", asked=f"{asked.at_least} rows answered by both",
                    found=f"{rows} rows", passed=False, settle=settle)  # fmt: skip
    what = f"disagreement on {asked.at_least} rows or more"
    most = share_of(asked.disagree, "disagree")
    return _share("shadow", what, most, entry, settle)


def _share(name: str, what: str, most: float, entry: Entry | None, settle: str) -> Rule:
    key = "disagreement" if name == "shadow" else name
    found = None if entry is None else entry.details.get(key)
    known = isinstance(found, int | float)
    passed = known and float(found or 0) <= most + ROUNDING
    return Rule(
        name=name,
        asked=f"{what}: at most {most:.2%}",
        found=f"{float(found or 0):.2%}" if known else _NOTHING,
        passed=passed,
        settle="" if passed else settle,
    )


def _audit(case: Case, more: str = "") -> str:
    return f"ssmith audit {case.before} {case.version.path} --data DATA{more} --line {case.root}"
