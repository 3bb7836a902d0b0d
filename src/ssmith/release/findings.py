"""Rules about what others found out, read from the newest entry of its kind about the version.

Of a ``canary`` the details say ``requests`` and ``passed``; of ``shadow`` ``rows`` and
``disagreement``; of an ``audit`` ``flips``, the ``metric``, and under ``slices``, by column, the
``worst`` group, its ``loss`` in the metric's own unit, and how many ``groups`` there are.
"""

from __future__ import annotations

from ssmith.core.errors import InputError
from ssmith.core.threshold import Scale, Threshold
from ssmith.release.case import ROUNDING, Case, Rule
from ssmith.release.log import Entry
from ssmith.release.policy import share_of
from ssmith.release.quality import SHARES

_NOTHING = "nothing"


def slices(case: Case) -> Rule | None:
    """No group loses more than the policy allows."""
    asked = case.policy.slices
    if asked is None:
        return None
    words = f"no {asked.column} loses more than {asked.max_loss}"
    entry = case.newest("audit")
    found = None if entry is None else (entry.details.get("slices") or {}).get(asked.column)
    settle = _audit(case, f" --slice {asked.column}")
    if entry is None or not found:
        return Rule(name="slices", asked=words, found="no audit by it", passed=False, settle=settle)
    said = f"of {found['groups']} the worst is {found['worst']}, which loses {found['loss']:.4g}"
    try:
        scale = _scale(case, str(entry.details.get("metric")))
        allowed = Threshold.read(asked.max_loss).loss(scale)
    except InputError as error:
        return Rule(name="slices", asked=words, found=f"{said}; {error.what}", passed=False,
                    settle=case.compare)  # fmt: skip
    passed = float(found["loss"]) <= allowed + ROUNDING
    return Rule(
        name="slices",
        asked=f"{words}: {allowed:.4g}",
        found=said,
        passed=passed,
        settle="" if passed else settle,
    )


def _scale(case: Case, metric: str) -> Scale:
    """Return the scale of a metric, with its value before where a comparison says it."""
    quality = case.quality
    if quality is not None and quality.scale.metric == metric:
        return quality.scale
    return Scale(metric=metric, share=metric in SHARES)


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
    told = f"{count} requests, {'all equal' if clean else 'some leaked'}"
    return Rule(
        name="canary",
        asked=f"{asked.requests} interleaved requests, each equal to its run alone",
        found=_NOTHING if entry is None else told,
        passed=passed,
        settle=""
        if passed
        else f"ssmith canary {case.path} --requests {asked.requests} --line {case.line}",
    )


def shadow(case: Case) -> Rule | None:
    """Enough live traffic was answered by both, and alike enough."""
    asked = case.policy.shadow
    if asked is None:
        return None
    entry = case.newest("shadow")
    rows = 0 if entry is None else int(entry.details.get("rows", 0))
    settle = (
        f"ssmith trial {case.before} {case.path} --mode shadow --data STREAM --state DIR "
        f"--line {case.line}"
    )
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
    return f"ssmith audit {case.before} {case.path} --data DATA{more} --line {case.line}"
