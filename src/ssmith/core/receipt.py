"""Receipt: what was done, and what was measured before and after."""

from __future__ import annotations

import platform
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ssmith.core.details import CutDetails, Details, kind_of_details
from ssmith.core.errors import ArtefactError, InputError
from ssmith.core.files import read_json, to_json, write_text
from ssmith.core.findings import Finding
from ssmith.core.sections import (
    DataSection,
    MemorySection,
    MethodSection,
    ModelSection,
    ParitySection,
    QualitySection,
    SavingSection,
    SizeSection,
    SpeedSection,
    TunedQuality,
    UnitRemoved,
    Verdict,
)
from ssmith.core.settings import to_mapping, typed

RECEIPT = "receipt.json"
"""Its file in the directory of what was made."""
RECEIPT_VERSION = 2
_RESTORE = "restore it from its source"
_TIMELESS = 1
"""Version of receipts that do not say when they were made."""


def moment() -> str:
    """Return the time in UTC, so finely that no two runs have the same."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """The record of one action. A section that was not measured is empty, never invented.

    Args:
        action: ``"prune"``, ``"compare"``, ``"pilot"``, …
        model: name, family, digest before and after, parameter counts.
        method: criterion, settings, budget, surgery mode.
        seed: the seed everything was derived from, or None if nothing was random.
        versions: ssmith, Python, torch, numpy and the machine.
        data: name, sha256, counts per split.
        removed: per unit: before, after, fraction removed.
        quality: metric, before, after, interval of the difference, p.
        speed: code path, per batch and per step, before and after, in seconds.
        memory: peak bytes of the forward pass, before and after.
        size: bytes on disk, before and after.
        parity: worst absolute differences (shrunk = masked, step = scan, saved = loaded).
        saving: estimate of money or time, with its assumptions.
        verdict: accepted or not, headline, reasons.
        findings: everything that was excepted, with its reason.
        details: further measurements of this action (curves, scores per layer).
        time: when the action ended, in UTC, ISO 8601; None where nobody has said. Of no account
            for whether two receipts say the same.
    """

    action: str
    model: ModelSection
    method: MethodSection
    seed: int | None
    versions: dict[str, str]
    data: DataSection = field(default_factory=DataSection)
    removed: dict[str, UnitRemoved] = field(default_factory=dict)
    quality: QualitySection | TunedQuality = field(default_factory=QualitySection)
    speed: SpeedSection = field(default_factory=SpeedSection)
    memory: MemorySection = field(default_factory=MemorySection)
    size: SizeSection = field(default_factory=SizeSection)
    parity: ParitySection = field(default_factory=ParitySection)
    saving: SavingSection = field(default_factory=SavingSection)
    verdict: Verdict = field(default_factory=Verdict)
    findings: tuple[Finding, ...] = ()
    details: Details = field(default_factory=CutDetails)
    time: str | None = field(default_factory=moment, compare=False)

    @property
    def compared(self) -> QualitySection:
        """The quality before and after; of a tuning, which has measures of its own, nothing."""
        return self.quality if isinstance(self.quality, QualitySection) else QualitySection()

    @property
    def tuned(self) -> TunedQuality:
        """The measures of a tuning; nothing of another action."""
        return self.quality if isinstance(self.quality, TunedQuality) else TunedQuality()

    @property
    def cut(self) -> CutDetails:
        """What was cut from each layer, and a pilot's curve; nothing of another action."""
        return self.details if isinstance(self.details, CutDetails) else CutDetails()

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dict, with the receipt's own version."""
        return {"receipt_version": RECEIPT_VERSION, **to_mapping(self)}

    def to_json(self) -> str:
        """Render as JSON."""
        return to_json(self.as_dict())

    def save(self, path: str | Path) -> None:
        """Write as JSON, atomically."""
        write_text(Path(path), self.to_json())

    @classmethod
    def from_json(cls, content: Any, where: str = "the receipt") -> Receipt:
        """Build a receipt from parsed JSON, which ``where`` names in errors."""
        if isinstance(content, dict) and content.get("receipt_version") == _TIMELESS:
            content = {"time": None, **content, "receipt_version": RECEIPT_VERSION}
        names = {item.name for item in fields(cls)}
        if not isinstance(content, dict) or set(content) != names | {"receipt_version"}:
            raise ArtefactError(
                _not_one(content, names, where),
                allowed="the receipt.json of a result",
                next_step="give that, or restore it from its source",
            )
        if content["receipt_version"] != RECEIPT_VERSION:
            raise ArtefactError(
                f"{where}: receipt_version is {content['receipt_version']!r}",
                allowed=f"{_TIMELESS} or {RECEIPT_VERSION}",
                next_step="read it with the ssmith that wrote it",
            )
        action, plain = content["action"], {name: content[name] for name in names}
        kinds = {
            "details": kind_of_details(action, content["details"]),
            "quality": TunedQuality if action == "tune" else QualitySection,
        }
        return typed(cls, plain, where=where, next_step=_RESTORE, kinds=kinds)

    @classmethod
    def load(cls, path: str | Path) -> Receipt:
        """Read a receipt from its file, or from a directory that has one.

        Args:
            path: the file, or the directory.

        Returns:
            The receipt.

        Raises:
            InputError: if it is a directory without one.
            ArtefactError: as in `from_json`.
        """
        path = Path(path)
        if path.is_dir():
            if not (path / RECEIPT).is_file():
                raise InputError(
                    f"{path} holds no {RECEIPT}", allowed="a receipt, or a directory with one",
                    next_step="prune, tune, compare, eval and pilot leave one in what they write",
                )  # fmt: skip
            path /= RECEIPT
        return cls.from_json(read_json(path), str(path))


def _not_one(content: object, names: set[str], where: str) -> str:
    """Return why something is not a receipt."""
    if not isinstance(content, dict) or "receipt_version" not in content:
        return f"{where} is not a receipt"
    known = names | {"receipt_version"}
    lacks, more = sorted(known - content.keys()), sorted(map(str, content.keys() - known))
    said = [f"lacks {', '.join(lacks)}"] * bool(lacks) + [f"has {', '.join(more)}"] * bool(more)
    return f"{where} is not a receipt of ours: it {' and '.join(said)}"


def versions() -> dict[str, str]:
    """Return the versions and the machine that a receipt names."""
    found = {"python": platform.python_version(), "machine": _machine()}
    for package in ("ssmith", "torch", "numpy", "safetensors"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "unknown"
    return found


def _machine() -> str:
    """Return the processor's name as the operating system gives it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return (
                    f"{line.split(':', 1)[1].strip()} ({platform.machine()}, {platform.system()})"
                )
    return f"{platform.processor() or 'processor'} ({platform.machine()}, {platform.system()})"
