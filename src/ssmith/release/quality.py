"""What a receipt of a comparison says about the loss, in the metric's own unit."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ssmith.core.errors import ArtefactError
from ssmith.core.sections import QualitySection
from ssmith.core.threshold import Scale

SHARES = ("accuracy",)
"""Metrics that are shares of all, told in points."""


@dataclass(frozen=True, kw_only=True)
class Quality:
    """A loss, in the metric's own unit.

    Args:
        scale: of the metric, with its value before.
        loss: as it was measured; negative if the metric is better.
        upper: the true loss is at most this.
        text: before and after, for people.
    """

    scale: Scale
    loss: float
    upper: float
    text: str

    def told(self, loss: float) -> str:
        """Return a loss for people: points of a share, else the metric's own unit."""
        if not math.isfinite(loss):
            return "no bound, from too few rows"
        if self.scale.share:
            return f"{round(100 * loss, 2) + 0.0:.2f} points"
        return f"{loss + 0.0:.4g}"


def quality_of(said: QualitySection) -> Quality:
    """Read the quality of a comparison; raises `ArtefactError` if it lacks something."""
    first, last, told = said.before, said.after, said.loss
    if first is None or last is None or told is None or said.higher_is_better is None:
        raise ArtefactError(
            "the receipt's quality lacks before, after, loss, or which is better",
            next_step="compare the models anew",
        )
    before, after = float(first.value), float(last.value)
    if not all(map(math.isfinite, (before, after))):
        raise ArtefactError("the receipt's quality is not finite", next_step="compare anew")
    loss = before - after if said.higher_is_better else after - before
    # Of too few rows nothing is known of how they vary.
    upper = math.inf if told.upper_bound is None else told.upper_bound
    relative = said.increase is not None
    # Losses of some metrics are told as a share of the value before.
    scaled = relative and math.isclose(told.value * abs(before), loss, abs_tol=1e-12)
    scale = Scale(
        metric=said.metric,
        share=said.metric in SHARES or said.agreement is not None,
        relative=relative,
        dense=before,
        naive=None if said.naive is None else float(said.naive.value),
        answer="a naive answer" if said.naive is None else said.naive.answer,
    )
    text = f"{said.metric} {before:.4g} before, {after:.4g} after, "
    text += f"{'?' if said.count is None else said.count} counted"
    return Quality(
        scale=scale, loss=loss, upper=upper * (abs(before) if scaled else 1.0), text=text
    )
