"""What a tuning job made: the model, its receipt, its resolved settings, history and curve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from torch import nn

from ssmith.core.details import MergeReport, TunedDetails
from ssmith.core.errors import MissingExtraError
from ssmith.core.files import to_json
from ssmith.core.findings import Finding
from ssmith.core.receipt import RECEIPT, Receipt, versions
from ssmith.core.sections import (
    DataSection,
    MethodSection,
    ModelSection,
    Rate,
    SizeSection,
    SpeedSection,
    TunedQuality,
)
from ssmith.core.settings import to_mapping, to_yaml
from ssmith.core.told import told_of
from ssmith.jobs.outputs import RECIPE
from ssmith.jobs.tuning.choice import Election
from ssmith.jobs.tuning.config import TuneConfig
from ssmith.report.plot_training import training_plot
from ssmith.tune.adapters import AttachReport
from ssmith.tune.training import Training

HISTORY = "history.json"


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """What a tuning job made.

    ``spec`` and ``digest`` are of the base model, ``config`` holds the resolved settings, ``rates``
    each group's learning rate and where it comes from, ``choice`` how the method was chosen if it
    was not named, ``start`` the adapter that was trained on; ``data`` and ``quality`` are sections
    of the receipt, and ``shared`` says which rows are in several splits.
    """

    model: nn.Module
    spec: str
    digest: str
    config: TuneConfig
    command: Sequence[str]
    report: AttachReport
    training: Training
    rates: dict[str, Rate]
    data: DataSection
    quality: TunedQuality
    choice: Election | None = None
    merged: MergeReport | None = None
    start: dict[str, str] | None = None
    shared: tuple[Finding, ...] = ()

    @cached_property
    def receipt(self) -> Receipt:
        """The record of the job."""
        report, training = self.report, self.training
        timed = training.tokens_per_second
        return Receipt(
            action="tune",
            model=ModelSection(
                name=self.spec,
                digest_before=self.digest,
                parameters=report.base_parameters,
            ),
            method=MethodSection(
                methods=report.methods,
                settings=to_mapping(self.config),
                rates=self.rates,
                command=tuple(self.command),
            ),
            seed=self.config.training.seed,
            versions=versions(),
            data=self.data,
            quality=self.quality,
            speed=SpeedSection(
                training_seconds=None if timed is None else training.seconds,
                training_tokens_per_second=timed,
            ),
            size=SizeSection(
                trained_parameters=report.parameters,
                stored_parameters=report.stored,
                share=report.share,
            ),
            findings=(
                *self.shared,
                *told_of(self.data.details),
                *report.findings,
            ),
            details=TunedDetails(
                adapter=report.as_dict(),
                choice=None if self.choice is None else to_mapping(self.choice),
                best_step=training.best_step,
                steps=training.steps,
                stopped_early=training.stopped_early,
                processes=training.processes,
                looks=tuple(training.looks),
                trained_on_from=self.start,
                merge=self.merged,
            ),
        )

    def files(self) -> dict[str, str]:
        """Return what lies beside the weights: receipt, recipe, history, curve if drawn."""
        found = {
            RECEIPT: self.receipt.to_json(),
            RECIPE: to_yaml({"command": "tune", "model": self.spec, **to_mapping(self.config)}),
            HISTORY: to_json(to_mapping(self.training)),
        }
        try:
            training = self.training
            plot = training_plot(training.losses, training.looks, training.best_step)
        except MissingExtraError:
            # Their data is in the history all the same.
            return found
        return {**found, "training.svg": plot.svg, "training.csv": plot.csv}
