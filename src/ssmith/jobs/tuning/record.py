"""The record of a tuning job: its receipt, its resolved settings, its history and its curve."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ssmith.core.errors import MissingExtraError
from ssmith.core.files import to_json
from ssmith.core.receipt import Receipt, versions
from ssmith.core.settings import to_mapping
from ssmith.jobs.outputs import RECEIPT
from ssmith.jobs.tuning.config import TuneConfig
from ssmith.report.plot_training import training_plot
from ssmith.tune.adapters import AttachReport, MergeReport
from ssmith.tune.training import Training, looks_as_json

SETTINGS = "tune.json"
HISTORY = "history.json"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a tuning job did and found.

    Args:
        spec: what the user called the base model.
        digest: of the base model.
        report: what the adapter reaches.
        training: what happened.
        rates: learning rate of each group and where it comes from.
        data: the data section of a receipt.
        quality: what the test split says.
        merged: how the adapter was merged; None if it was not.
    """

    spec: str
    digest: str
    report: AttachReport
    training: Training
    rates: dict[str, dict[str, Any]]
    data: dict[str, Any]
    quality: dict[str, Any]
    merged: MergeReport | None = None


def receipt_of(found: Outcome, config: TuneConfig, command: Sequence[str]) -> Receipt:
    """Return the receipt of a tuning job.

    Args:
        found: what it did.
        config: its resolved settings.
        command: the command line to repeat it.

    Returns:
        The receipt.
    """
    report, training = found.report, found.training
    timed = training.tokens_per_second
    return Receipt(
        action="tune",
        model={
            "name": found.spec,
            "digest_before": found.digest,
            "parameters": report.base_parameters,
        },
        method={
            "methods": list(report.methods),
            "settings": to_mapping(config),
            "rates": found.rates,
            "command": list(command),
        },
        seed=config.training.seed,
        versions=versions(),
        data=found.data,
        quality=found.quality,
        speed={"training_seconds": training.seconds, "training_tokens_per_second": timed}
        if timed is not None
        else {},
        size={"trained_parameters": report.parameters, "share": report.share},
        findings=[finding.as_dict() for finding in report.findings],
        details={
            "adapter": report.as_dict(),
            "best_step": training.best_step,
            "steps": training.steps,
            "stopped_early": training.stopped_early,
            "processes": training.processes,
            "looks": looks_as_json(training.looks),
            "merge": None if found.merged is None else dataclasses.asdict(found.merged),
        },
    )


def adapter_files(receipt: Receipt, config: TuneConfig, training: Training) -> dict[str, str]:
    """Return the files that lie beside an adapter's weights, by name.

    Args:
        receipt: of the job.
        config: its resolved settings.
        training: what happened.

    Returns:
        Receipt, settings and history; the curve with its data where matplotlib is installed.
    """
    found = {
        RECEIPT: receipt.to_json(),
        SETTINGS: to_json(to_mapping(config)),
        HISTORY: to_json(to_mapping(training)),
    }
    try:
        looks = looks_as_json(training.looks)
        plot = training_plot(training.losses, looks, training.best_step)
    except MissingExtraError:
        # Their data is in the history all the same.
        return found
    return {**found, "training.svg": plot.svg, "training.csv": plot.csv}
