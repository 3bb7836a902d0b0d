"""A new version: the dense model cut anew, or the live version trained further."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ssmith.core.progress import Progress
from ssmith.core.receipt import RECEIPT
from ssmith.cycle.config import CycleConfig
from ssmith.jobs.compare import compare
from ssmith.jobs.pilot import pilot
from ssmith.jobs.tuning import fine_tune
from ssmith.release.adding import keep
from ssmith.release.evidence import read_paper
from ssmith.release.line import Line
from ssmith.release.opening import opened, receipts_with
from ssmith.release.version import Version


@dataclass(frozen=True, kw_only=True)
class Renewed:
    """What was made, whether its own receipt lets it pass, and further files that speak of it."""

    directory: Path
    accepted: bool
    headline: str
    receipts: tuple[Path, ...] = ()


def recalibrate(
    config: CycleConfig,
    live: Version | None,
    out: Path,
    *,
    command: Sequence[str],
    progress: Progress,
) -> Renewed:
    """Cut the dense model anew by a pilot, which goes on where it was killed."""
    where = out / "pilot"
    receipt = pilot(
        config.renew.model, config.renew.data, where, config.pilot, resume=True,
        command=command, progress=progress,
    )  # fmt: skip
    verdict = receipt.verdict
    return Renewed(
        directory=where,
        accepted=verdict.accepted is True,
        headline=verdict.headline,
    )


def retune(
    config: CycleConfig,
    live: Version | None,
    out: Path,
    *,
    command: Sequence[str],
    progress: Progress,
) -> Renewed:
    """Train the live version further, from its last checkpoint if that was killed, and compare."""
    assert config.tune is not None
    assert live is not None
    tuned, judged = out / "tuned", out / "compared" / RECEIPT
    if not tuned.exists():
        fine_tune(
            live.path, config.tune, out=tuned, checkpoints=out / "checkpoints", command=command,
            progress=progress,
        )  # fmt: skip
    if not judged.exists():
        receipt = compare(
            str(live.path), str(tuned), config.renew.data, config.compare, command=command,
            progress=progress,
        )  # fmt: skip
        receipt.save(judged)
    return Renewed(
        directory=tuned,
        accepted=True,
        headline="the live version was trained further on new data",
        receipts=(judged,),
    )


def add_version(line: Line, made: Renewed) -> Version:
    """Bring what was made into the line with its receipts, unless it is there already."""
    papers = [read_paper(path) for path in (*receipts_with(made.directory), *made.receipts)]
    return keep(line, opened(made.directory), papers=papers, reason="made by a cycle")
