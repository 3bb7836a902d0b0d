"""What a cycle does, from a TOML file: strict types, no unknown keys."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ssmith.core.errors import InputError
from ssmith.core.files import read_toml
from ssmith.core.settings import from_mapping
from ssmith.jobs.compare import CompareConfig
from ssmith.jobs.pilot import PilotConfig
from ssmith.jobs.tuning import TuneConfig
from ssmith.trials.audit import AuditConfig
from ssmith.trials.canary.job import CanaryJob
from ssmith.watch.look import WatchConfig


@dataclass(frozen=True, kw_only=True)
class Renew:
    """When and how a new version is made.

    Args:
        when: ``"alarm"``: if the watch raises one; ``"always"``; ``"never"``: a person decides.
        how: ``"recalibrate"``: cut ``model`` anew on ``data`` by a pilot; ``"retune"``: train the
            live version further on ``data``.
        data: labelled, with the splits of a pilot: what is cut or trained on, and judged.
        model: what is cut anew; of ``"recalibrate"`` only.
    """

    when: Literal["alarm", "always", "never"] = "alarm"
    how: Literal["recalibrate", "retune"] = "recalibrate"
    data: str = ""
    model: str = ""

    def __post_init__(self) -> None:
        if self.when == "never":
            return
        if not self.data:
            raise InputError(
                "renew lacks data", next_step='name labelled data, or set when = "never"'
            )
        if self.how == "recalibrate" and not self.model:
            raise InputError("renew lacks model", next_step="name the model that is cut anew")
        if self.how == "retune" and self.model:
            raise InputError(
                f"renew: model is {self.model!r}",
                allowed='none where how = "retune": the live version is trained',
            )


@dataclass(frozen=True, kw_only=True)
class CycleConfig:
    """One cycle.

    Args:
        data: new rows, which the live version is watched on.
        labels: whether they are labelled, and count.
        renew: when and how a new version is made.
        watch: settings of the watch.
        pilot: settings of the pilot that recalibrates.
        tune: settings of the training that retunes; its data is that of ``renew``.
        compare: settings of the comparison after it.
        audit: settings of the audit of behaviour; None leaves it out.
        canary: settings of the canary; None leaves it out.
        profile: whether a profile of the new version is taken, to be watched by.
    """

    data: str
    labels: bool = False
    renew: Renew = field(default_factory=lambda: Renew(when="never"))
    watch: WatchConfig = field(default_factory=WatchConfig)
    pilot: PilotConfig = field(default_factory=PilotConfig)
    tune: TuneConfig | None = None
    compare: CompareConfig = field(default_factory=CompareConfig)
    audit: AuditConfig | None = field(default_factory=AuditConfig)
    canary: CanaryJob | None = field(default_factory=CanaryJob)
    profile: bool = True

    def __post_init__(self) -> None:
        if self.renew.when != "never" and self.renew.how == "retune" and self.tune is None:
            raise InputError("retune without tune", next_step="add a table [tune] with methods")


def read_cycle(path: Path) -> CycleConfig:
    """Read what a cycle does, from TOML.

    Raises `ArtefactError` if it is none, and `InputError` if a key is unknown or missing, or a
    value is not allowed.
    """
    content = read_toml(path)
    tune, renew = content.get("tune"), content.get("renew")
    if isinstance(tune, dict) and isinstance(renew, dict):
        content = {**content, "tune": {"data": renew.get("data", ""), **tune}}
    return from_mapping(CycleConfig, content, where=str(path))
