"""What a receipt of a comparison says about the loss, in the metric's own unit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ssmith.core.errors import ArtefactError
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


def quality_of(section: Mapping[str, Any]) -> Quality:
    """Read the section of a receipt.

    Args:
        section: as `ssmith compare` and `ssmith pilot` write it.

    Returns:
        The loss.

    Raises:
        ArtefactError: if something is missing or no number.
    """
    try:
        before, after = (float(section[name]["value"]) for name in ("before", "after"))
        said, bound = float(section["loss"]["value"]), section["loss"]["upper_bound"]
        # Of too few rows nothing is known of how they vary.
        upper = math.inf if bound is None else float(bound)
        loss = before - after if section["higher_is_better"] else after - before
        name = str(section["metric"])
    except (KeyError, TypeError, ValueError) as error:
        raise ArtefactError(
            f"the receipt's quality lacks {error}", next_step="compare the models anew"
        ) from error
    if not all(map(math.isfinite, (before, after))):
        raise ArtefactError("the receipt's quality is not finite", next_step="compare anew")
    relative = "increase" in section
    # Losses of some metrics are told as a share of the value before.
    unit = (
        abs(before) if relative and math.isclose(said * abs(before), loss, abs_tol=1e-12) else 1.0
    )
    share = name in SHARES or section.get("agreement") is not None
    naive = section.get("naive") or {}
    scale = Scale(
        metric=name, share=share, relative=relative, dense=before, naive=naive.get("value"),
        answer=str(naive.get("answer", "a naive answer")),
    )  # fmt: skip
    text = f"{name} {before:.4g} before, {after:.4g} after, {section.get('count', '?')} counted"
    return Quality(scale=scale, loss=loss, upper=upper * unit, text=text)
