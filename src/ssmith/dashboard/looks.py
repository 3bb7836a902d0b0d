"""What watches found, look by look."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from ssmith.core.looks import Drifted, LookReceipt, QualityNow, SiteCost, WatchFinding
from ssmith.dashboard.story import Story, moment_of
from ssmith.release.log import Entry

LOOKS = ("watch", "alarm")
"""Actions of entries that a look leaves."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """One look, by the entry that it left; no receipt where that cannot be read."""

    entry: Entry
    receipt: LookReceipt | None = None

    @property
    def time(self) -> datetime:
        """When it was."""
        return moment_of(self.entry.time)

    @property
    def findings(self) -> tuple[WatchFinding, ...]:
        """What was found, alarms first."""
        return () if self.receipt is None else self.receipt.look.findings

    @property
    def sites(self) -> list[tuple[str, SiteCost]]:
        """What the cut costs, the worst first."""
        cut = None if self.receipt is None else self.receipt.look.cut
        found = [] if cut is None else [*cut.sites.items()]
        return sorted(found, key=lambda item: -(item[1].times[0] if item[1].times else 0.0))

    @property
    def drifts(self) -> tuple[Drifted, ...]:
        """The surest of each kind."""
        return () if self.receipt is None else self.receipt.look.drifts

    @property
    def quality(self) -> QualityNow | None:
        """The metric; None without labels."""
        return None if self.receipt is None else self.receipt.look.quality

    @property
    def least(self) -> float | None:
        """Distance below which no drift is an alarm."""
        return None if self.receipt is None else self.receipt.settings.get("least")

    def alarms(self, kind: str) -> bool:
        """Whether something of a kind is beyond its limit."""
        return any(item.alarm and item.kind == kind for item in self.findings)

    def farthest(self, kind: str) -> float | None:
        """Return the largest distance of a kind."""
        return max((item.distance for item in self.drifts if item.kind == kind), default=None)


def looks_of(story: Story) -> tuple[Look, ...]:
    """Return every look of a line, the oldest first."""
    return tuple(
        Look(entry=entry, receipt=story.looks.get(entry.receipts[0]) if entry.receipts else None)
        for entry in story.entries
        if entry.action in LOOKS
    )
