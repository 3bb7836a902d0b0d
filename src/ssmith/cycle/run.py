"""The steps of a cycle in order, each written down in the line before the next begins.

What a killed cycle has finished is read from the log, so that the same command goes on behind it.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssmith.core.progress import Progress, silent
from ssmith.core.settings import to_mapping
from ssmith.cycle.config import CycleConfig
from ssmith.cycle.steps import END, STEPS, Done, Round
from ssmith.release.disk import canonical, digest_of
from ssmith.release.line import Line
from ssmith.release.log import Entry

KEY = "cycle"
"""Key of the details of an entry that a cycle writes."""


@dataclass(frozen=True, kw_only=True)
class Cycle:
    """What became of a cycle, by the index of the entry that began it, perhaps in another run."""

    number: int
    steps: tuple[Done, ...]
    resumed: bool

    @property
    def last(self) -> Done:
        """The step it ended with."""
        return self.steps[-1]

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dict."""
        return {
            "number": self.number,
            "resumed": self.resumed,
            "steps": [step.as_dict() for step in self.steps],
            "passed": self.last.passed,
            "next": self.last.next_step,
        }


def run_cycle(
    line: Line,
    config: CycleConfig,
    work: Path,
    *,
    command: Sequence[str] = (),
    progress: Progress = silent,
) -> Cycle:
    """Go once through a cycle, or on with one that was killed.

    Nothing is promoted: it ends with a proposal, or at the first step that asks for a person.

    Args:
        line: the line.
        config: what is done.
        work: directory for what is made on the way; cycles that ended are swept from it.
        command: the command line, for the receipts.
        progress: told of the steps that take long.

    Returns:
        What each step found.

    Raises:
        SsmithError: if a step cannot be done; what was finished before it is kept.
    """
    identity = digest_of(canonical(to_mapping(config)))
    begun = _open_cycle(line.entries(), identity)
    resumed = begun is not None
    if begun is None:
        _sweep(work)
        begun = line.record(
            "note",
            version=line.live,
            reason="a cycle begins",
            details={KEY: {"step": "begin", "config": identity}},
        )
    here = Round(
        line=line,
        config=config,
        begun=begun,
        out=work / f"{KEY}-{begun.index}",
        command=tuple(command),
        progress=progress,
    )
    found: list[Done] = []
    for name, step in STEPS.items():
        done = here.known(name, KEY)
        if done is None:
            done = step(here)
            _write(here, done)
        here.done[name] = done
        found.append(done)
        if done.stops:
            break
    return Cycle(number=begun.index, steps=tuple(found), resumed=resumed)


def _write(here: Round, done: Done) -> None:
    here.line.record(
        "note",
        version=done.version or here.live,
        reason=f"cycle, {done.name}: {done.text}",
        details={KEY: {"begun": here.begun.index, "step": done.name, **done.as_dict()}},
    )


def _open_cycle(entries: Sequence[Entry], identity: str) -> Entry | None:
    """Return the entry that began a cycle of this config which has not ended."""
    for entry in reversed(entries):
        told = entry.details.get(KEY)
        if not isinstance(told, Mapping):
            continue
        if told.get("step") == "begin":
            return entry if told.get("config") == identity else None
        if told.get("stops") is True or told.get("step") == END:
            return None
    return None


def _sweep(work: Path) -> None:
    """Remove what cycles that ended have left; nothing else in the directory is ours."""
    for item in work.glob(f"{KEY}-*"):
        if item.is_dir() and item.name.removeprefix(f"{KEY}-").isdigit():
            shutil.rmtree(item)
