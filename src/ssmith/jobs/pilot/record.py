"""From the results of the stages to one receipt."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from ssmith.core.curve import Curve
from ssmith.core.findings import Finding
from ssmith.core.receipt import Receipt, moment
from ssmith.core.sections import (
    MemorySection,
    ParitySection,
    QualitySection,
    Reason,
    SavingSection,
    SizeSection,
    SpeedSection,
    Verdict,
)
from ssmith.jobs.pilot.config import PilotConfig
from ssmith.jobs.pilot.cut import AUTO_WITHOUT_DATA


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What was measured of a cut and how it was judged; where nothing was cut only the verdict.

    The time is when it was judged, which a run that is resumed does not change.
    """

    verdict: Verdict
    time: str = field(default_factory=moment)
    quality: QualitySection = field(default_factory=QualitySection)
    parity: ParitySection = field(default_factory=ParitySection)
    speed: SpeedSection = field(default_factory=SpeedSection)
    memory: MemorySection = field(default_factory=MemorySection)
    size: SizeSection = field(default_factory=SizeSection)
    saving: SavingSection = field(default_factory=SavingSection)
    findings: tuple[Finding, ...] = ()

    def written(self, receipt: Receipt) -> Receipt:
        """Return a receipt that says it as well."""
        return replace(
            receipt,
            quality=self.quality,
            parity=self.parity,
            speed=self.speed,
            memory=self.memory,
            size=self.size,
            saving=self.saving,
            verdict=self.verdict,
            findings=(*self.findings, *receipt.findings),
            time=self.time,
        )


def nothing_fits(curve: Curve) -> Verdict:
    """Return the verdict where no cut that was tried is within tolerance."""
    text = (
        f"even the smallest cut that was tried loses more than {curve.tolerance:g} of "
        f"{curve.metric} on the {curve.split} split, or could not be measured"
    )
    return Verdict(
        accepted=False,
        headline=f"Nothing was cut: {text}",
        reasons=(Reason(gate="quality", passed=False, text=f"{text}."),),
    )


def without_data(config: PilotConfig) -> list[Finding]:
    """Say so if no method that is fitted to data could be tried."""
    if config.method != AUTO_WITHOUT_DATA:
        return []
    message = (
        "the data has no train split, so only methods that need none were tried: no State-OBS and "
        "no refits, which usually remove far more"
    )
    return [Finding(layer="", kind="no-train-split", message=message)]
