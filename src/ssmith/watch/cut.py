"""What the cut costs now against what it cost at release, site by site and in the task's unit."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ssmith.core.looks import CutCosts, SiteCost
from ssmith.evaluation.metrics import Metric
from ssmith.watch.curve import APART, DISAGREE
from ssmith.watch.inside import MEAN_COST, RowsSeen
from ssmith.watch.profile import Profile
from ssmith.watch.sketch import Sketch, Values

_TWO_SIDED = 1.96


def costs_now(
    profile: Profile, seen: RowsSeen, refits: Mapping[str, float], metric: Metric | None
) -> CutCosts | None:
    """Hold the cut's costs on new rows against the profile.

    None where the dense model was not at hand now or then; ``refits`` say, by site, what a refit
    could leave on the new rows.
    """
    answers = seen.readings.get(DISAGREE)
    known = profile.sketches.get(DISAGREE)
    if answers is None or known is None:
        return None
    names = {**seen.costs, **seen.shares}
    loss = release = None
    beyond = 0.0
    if profile.curve is not None and metric is not None and profile.promise.dense is not None:
        level, seed = profile.promise.dense, int(profile.settings.get("seed", 0))
        loss = profile.curve.loss(seen.readings, level, metric, seed)
        beyond = profile.curve.beyond(seen.readings[MEAN_COST])
        then = {name: profile.sketches[name].drawn() for name in (MEAN_COST, APART, DISAGREE)}
        release = profile.curve.loss(then, level, metric, seed)
    return CutCosts(
        sites={name: _site(name, profile, seen, refits) for name in names},
        disagree=float(answers.mean()),
        disagree_high=float(answers.mean() + _TWO_SIDED * answers.std() / len(answers) ** 0.5),
        disagree_at_release=known.mean,
        loss=loss, loss_at_release=release, beyond=beyond,
    )  # fmt: skip


def _site(name: str, profile: Profile, seen: RowsSeen, refits: Mapping[str, float]) -> SiteCost:
    reading = f"cut/{name}/cost"
    times = None
    if reading in seen.readings and reading in profile.sketches:
        times = times_as_much(profile.sketches[reading], seen.readings[reading])
    return SiteCost(
        now=seen.costs.get(name), at_release=profile.costs.get(name), times=times,
        removed=seen.shares.get(name), removed_at_release=profile.shares.get(name),
        refit=refits.get(name), refit_at_release=profile.refits.get(name),
    )  # fmt: skip


def times_as_much(before: Sketch, now: Values) -> tuple[float, float, float] | None:
    """Return a ratio of means, and the ends of its interval (delta method on logarithms).

    None where one of the means is 0.
    """
    mean = float(now.mean())
    if mean <= 0 or before.mean <= 0:
        return None
    variance = (before.std / before.mean) ** 2 / before.count + (now.std() / mean) ** 2 / len(now)
    slack = float(np.exp(_TWO_SIDED * np.sqrt(variance)))
    value = mean / before.mean
    return value, value / slack, value * slack
