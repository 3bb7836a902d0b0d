"""A trial on a stream as a job: resumed from its state, decided as soon as it can be."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from ssmith import api
from ssmith.core.details import TrialDetails
from ssmith.core.errors import ArtefactError
from ssmith.core.files import write_json
from ssmith.core.progress import Progress, silent
from ssmith.core.receipt import Receipt, versions
from ssmith.core.sections import MethodSection, ModelSection
from ssmith.core.settings import read_typed, to_mapping
from ssmith.trials.live import LiveConfig, LiveTrial
from ssmith.trials.recording import record, refuse_unknown
from ssmith.trials.stream import STDIN, RowStream, StreamLine

STATE = "trial.json"
_AT_ONCE = 64


@dataclass(frozen=True, kw_only=True)
class _Held:
    """The file of a state."""

    models: tuple[str, ...]
    trial: dict[str, Any]


def follow(
    names: tuple[str, str],
    stream: str,
    state: Path,
    config: LiveConfig,
    *,
    stdin: Iterable[str] | None = None,
    every: float | None = None,
    line: str | None = None,
    command: Sequence[str] = (),
    progress: Progress = silent,
) -> tuple[Receipt, TrialDetails]:
    """Put two models on a stream, from where an earlier run stopped.

    What was read and what came of it are written together, so that after a kill at any moment
    nothing is counted twice and nothing left out.

    Args:
        names: the old and the new model: directories, hub ids or ``embedded:NAME``.
        stream: a ``.jsonl`` file, a directory of them, or ``-`` for standard input.
        state: directory of the state.
        config: how they are compared.
        stdin: standard input.
        every: seconds between looks for new rows, until it is decided; one look if None.
        line: directory of the line that is to know; None for none.
        command: the command line to repeat it.
        progress: told how many rows were read.

    Returns:
        The receipt, and how things stand.
    """
    old, new = (api.load(name) for name in names)
    digests = [api.inspect(old, names[0]).digest, api.inspect(new, names[1]).digest]
    refuse_unknown(line, digests[1], names[1])
    trial = LiveTrial.of(old, new, config)
    path = state / STATE
    if path.exists():
        held = read_typed(_Held, path, next_step="give another --state")
        if list(held.models) != digests:
            raise ArtefactError(
                f"{path} is of a trial of other models", next_step="give another --state"
            )
        trial.resume(held.trial)
    source = RowStream(place=stream, offsets=trial.offsets, stdin=stdin)
    while True:
        for batch in _batches(source.lines()):
            _take(trial, batch)
            write_json(path, {"models": digests, "trial": trial.as_dict()})
            progress("rows", trial.counts.get("rows", 0), 0)
        if every is None or stream == STDIN or trial.test.decision != "open":
            break
        time.sleep(every)
    found = trial.describe()
    receipt = Receipt(
        action=config.mode,
        model=ModelSection(
            name=" → ".join(names), digest_before=digests[0], digest_after=digests[1]
        ),
        method=MethodSection(command=tuple(command), settings=to_mapping(config)),
        seed=None,
        versions=versions(),
        details=found,
    )  # fmt: skip
    if line is not None:
        record(
            line, config.mode, tensors=digests[1], name=names[1], receipt=receipt.as_dict(),
            reason=sentence(found, config), details=_facts(found, digests[0]),
        )  # fmt: skip
    return receipt, found


def sentence(found: TrialDetails, config: LiveConfig) -> str:
    """Return how things stand in one sentence: the decision, on how much it rests, and the loss."""
    said = {
        "worse": f"the new model loses more than {config.tolerance:g}",
        "within": f"the new model loses no more than {config.tolerance:g}",
        "open": "nothing is decided yet",
        "exhausted": "the budget is used up and nothing is decided",
    }[found.decision]
    loss = "no label yet"
    if found.mean is not None:
        low, high = found.interval.low, found.interval.high
        loss = f"loss {found.mean:.4g} [{low:.4g}, {high:.4g}] at {found.level:.0%}"
    rest = f"{found.count} {found.observed} of {found.rows} rows"
    return f"{said}: {loss}, on {rest}"


def _facts(found: TrialDetails, against: str) -> dict[str, Any]:
    share = found.disagreement
    return {
        "against": against,
        "rows": found.rows,
        "units": found.units,
        "decision": found.decision,
        "loss": found.mean,
        "loss_upper": found.interval.high if found.count else None,
        **({} if share is None else {"disagreement": share.value}),
    }


def _batches(lines: Iterator[StreamLine]) -> Iterator[list[StreamLine]]:
    while batch := list(islice(lines, _AT_ONCE)):
        yield batch


def _take(trial: LiveTrial, batch: list[StreamLine]) -> None:
    """Deal with some lines: rows of standard input that were known before are not new."""
    fresh = []
    for item in batch:
        if item.source == STDIN and "x" in item.content:
            name = str(item.content["id"])
            if name in trial.known:
                trial.counts["rows seen before"] = trial.counts.get("rows seen before", 0) + 1
                continue
            trial.known[name] = 1
        fresh.append(item.content)
    trial.rows(fresh)
    for item in batch:
        if item.source != STDIN:
            trial.offsets[item.source] = item.end
