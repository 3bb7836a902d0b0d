"""What is watched: a version of a line, what it was cut from, and its rows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from ssmith import api
from ssmith.core.errors import InputError, SsmithError
from ssmith.core.plan import PLAN, Plan
from ssmith.core.receipt import RECEIPT, Receipt
from ssmith.core.rows import Rows
from ssmith.core.text import ALL
from ssmith.evaluation import tasks
from ssmith.evaluation.task import Task
from ssmith.families import model_digest
from ssmith.jobs.source import RowsConfig, every_row, open_source, reads_text
from ssmith.release.line import Line
from ssmith.release.version import Version
from ssmith.watch.inside import ModelPair
from ssmith.watch.profile import removed_of

WINDOW = 512
"""Tokens of a window of text, unless the user says another length."""


@dataclass(frozen=True, kw_only=True)
class WatchSubject:
    """A version, opened, and what it was cut from, as a user names it; ``why`` if it is not."""

    place: str
    model: nn.Module
    dense: nn.Module | None = None
    dense_name: str = ""
    plan: Plan | None = None
    why: str = ""

    @property
    def is_text(self) -> bool:
        """Whether it reads text."""
        return reads_text(self.place)

    def task(self, name: str | None, rows: Rows) -> Task:
        """Return what good means; raises `InputError` for another model's metric."""
        return tasks.task_of(self.model, rows, name)

    def pair(self, task: Task | None) -> ModelPair:
        """Return the two models, with what was removed."""
        removed, _ = removed_of(self.plan, self.dense)
        return ModelPair(model=self.model, dense=self.dense, removed=removed, task=task)

    def labelled(self, spec: str, length: int | None, most: int) -> Rows:
        """Return the rows of a test split, of which a profile is taken; of text ``most`` windows.

        Raises `InputError` if there is no such data, `DataError` if it does not fit the model.
        """
        source = open_source(self.model, self.place, spec, needs=("test",))
        if self.is_text:
            return source.rows("test", RowsConfig(length=length or WINDOW, windows=most))
        return source.rows("test")

    def new(self, spec: str, *, labels: bool, length: int | None, most: int) -> Rows:
        """Return new rows, all of them, in the order of the file; of text ``most`` windows over it.

        ``labels`` are whether they are there and count. Raises `InputError` if there is no such
        file, `DataError` if it does not fit the model.
        """
        if self.is_text:
            source = open_source(self.model, self.place, spec)
            return source.rows(ALL, RowsConfig(length=length or WINDOW, windows=most, split=ALL))
        return every_row(self.model, self.place, spec, labelled=labels).split(ALL)


def open_subject(line: Line, version: Version, parent: str | None = None) -> WatchSubject:
    """Open a version and what it was cut from; without a dense model the subject says why.

    ``parent`` is what it was cut from, where the line cannot tell; raises `InputError` if it is
    not.
    """
    place = version.path
    model = api.load(place)
    if not (place / PLAN).is_file():
        if parent is not None:
            raise InputError(
                f"{place} has no {PLAN} that says what was removed",
                allowed="a version that was pruned", next_step="leave --parent out",
            )  # fmt: skip
        return WatchSubject(place=str(place), model=model, why="the version was not cut")
    plan = Plan.load(place)
    if parent is not None:
        dense = api.load(parent)
        if model_digest(dense) != plan.model_digest:
            raise InputError(
                f"{parent} is not what the version was cut from",
                allowed=f"the model with the digest {plan.model_digest[:12]}…",
            )
        return WatchSubject(
            place=str(place), model=model, dense=dense, dense_name=parent, plan=plan
        )  # fmt: skip
    name, why = _named(line, place, plan.model_digest)
    if name:
        found, why = _opened(name, plan.model_digest)
        if found is not None:
            return WatchSubject(
                place=str(place), model=model, dense=found, dense_name=name, plan=plan
            )  # fmt: skip
    return WatchSubject(place=str(place), model=model, plan=plan, why=why)


def _named(line: Line, place: Path, digest: str) -> tuple[str, str]:
    """Return where a model with a digest of tensors is: in the line, or where a receipt says."""
    for item in line.versions():
        if item.tensors.removeprefix("sha256:") == digest:
            return str(item.path), ""
    said = Receipt.load(place).model.source if (place / RECEIPT).is_file() else ""
    if said:
        return said, ""
    return "", "what it was cut from is not in the line, and its receipt does not name it"


def _opened(name: str, digest: str) -> tuple[nn.Module | None, str]:
    try:
        found = api.load(name)
    except (SsmithError, OSError) as error:
        what = error.what if isinstance(error, SsmithError) else str(error)
        return None, f"{name}, which it was cut from, cannot be opened: {what}"
    if model_digest(found) != digest:
        return None, f"{name} is no longer what it was cut from"
    return found, ""
