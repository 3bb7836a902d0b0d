"""What every pilot does around its stages: refuse early, open the store, judge, report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from torch import nn

from ssmith import families
from ssmith.core.optional import require
from ssmith.core.progress import Progress, silent
from ssmith.core.receipt import Receipt
from ssmith.jobs.outputs import RECEIPT, refuse_own_input
from ssmith.jobs.pilot.record import make_receipt, nothing_fits
from ssmith.jobs.pilot.store import Store
from ssmith.report import write_report

MODEL = "model"


def about(name: str, model: nn.Module, task: str) -> dict[str, Any]:
    """Return what a model is, for the receipt of a pilot.

    Args:
        name: what the user called it.
        model: the model.
        task: what it does, in words.

    Returns:
        Name, families, task and number of layers.
    """
    layers = families.describe(model)
    return {
        "name": name,
        "family": ", ".join(sorted({layer.family for layer in layers})),
        "task": task,
        "layers": len(layers),
    }


@runtime_checkable
class Stages(Protocol):
    """The stages of one pilot."""

    def about(self) -> dict[str, Any]:
        """Return what the model is, for the receipt."""

    def curve(self) -> dict[str, Any]:
        """Sweep, and choose the cut."""

    def cut_and_judge(self, method: str, chosen: dict[str, Any]) -> dict[str, Any]:
        """Make the chosen cut, prove and judge it; return the receipt's sections."""


@dataclass(frozen=True, kw_only=True)
class Frame:
    """Where a pilot runs, and how it was called.

    Args:
        out: directory for everything.
        resume: go on with an interrupted run in ``out``.
        overwrite: throw away an earlier pilot in ``out``.
        command: the command line to repeat it, for the receipt.
        progress: told after each part.
    """

    out: Path
    resume: bool = False
    overwrite: bool = False
    command: Sequence[str] = ()
    progress: Progress = silent

    @property
    def store(self) -> Store:
        """What was finished so far."""
        return Store(self.out)

    def refuse_early(self, *inputs: str) -> None:
        """Refuse what can be refused before the first file and any long work.

        Args:
            *inputs: models and files the pilot reads.

        Raises:
            MissingExtraError: if the report cannot be made.
            OutputExistsError: if an input lies in ``out``.
        """
        for package in ("matplotlib", "jinja2"):
            require(package, extra="report", purpose="the report")
        refuse_own_input(self.out, *inputs)

    def run(self, identity: dict[str, Any], stages: Stages) -> Receipt:
        """Run a pilot.

        Args:
            identity: everything the results depend on: model, data, config, versions.
            stages: what it does.

        Returns:
            The receipt, written beside the report.
        """
        # A run killed before its first file was whole has left no command: the resumed one counts.
        words = [word for word in self.command if word != "--resume"]
        first = self.store.open(identity, words, resume=self.resume, overwrite=self.overwrite)
        curve = stages.curve()
        sections: dict[str, Any] = {"verdict": nothing_fits(curve)}
        if curve["chosen"] is not None:
            sections = stages.cut_and_judge(curve["method"], curve["chosen"])
        receipt = make_receipt({**identity, "command": first}, stages.about(), curve, sections)
        receipt.save(self.out / RECEIPT)
        write_report(receipt, self.out)
        self.progress("report", 1, 1)
        return receipt
