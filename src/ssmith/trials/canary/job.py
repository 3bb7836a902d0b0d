"""A canary as a job: of a saved model or a server, into a receipt and a line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ssmith import api
from ssmith.core.errors import InputError
from ssmith.core.progress import Progress, silent
from ssmith.core.receipt import Receipt, versions
from ssmith.core.sections import MethodSection, ModelSection
from ssmith.core.settings import to_mapping
from ssmith.trials.canary.interleave import CanaryConfig, CanaryRun
from ssmith.trials.canary.local import canary_of
from ssmith.trials.canary.server import ServerCanary, ServerConfig, server_canary
from ssmith.trials.recording import Keep, nowhere, record, refuse_unknown

ACTION = "canary"


@dataclass(frozen=True, kw_only=True)
class CanaryJob(CanaryConfig):
    """How requests are interleaved, and with which running server; None for this process."""

    server: ServerConfig | None = None


def run_canary(
    candidate: str | None,
    job: CanaryJob,
    *,
    line: str | None = None,
    keep: Keep = nowhere,
    command: Sequence[str] = (),
    progress: Progress = silent,
) -> tuple[Receipt, str]:
    """Run a canary, and write it into the line of the model.

    Args:
        candidate: a directory, a hub id or ``embedded:NAME``; with a server only what is written
            into the line, or None.
        job: how requests are interleaved, and where.
        line: directory of the line that is to know; None for none.
        keep: keeps the receipt, before the line is written.
        command: the command line to repeat it.
        progress: told how many requests are done.

    Returns:
        The receipt, and what was seen in one sentence.

    Raises:
        InputError: if there is neither a model nor a server, or the line has no such version.
        EndpointError: if the server does not answer.
    """
    if candidate is None and (job.server is None or line is not None):
        raise InputError(
            "CANDIDATE is missing",
            next_step="name the model" if job.server is None else "name the model that is served",
        )
    model = None if candidate is None else api.load(candidate)
    name = str(candidate or (job.server and job.server.url))
    digest = None if model is None else api.inspect(model, name).digest
    if digest is not None:
        refuse_unknown(line, digest, name)
    seen: CanaryRun | ServerCanary
    if job.server is not None:
        seen = server_canary(job.server, job, progress=progress)
    elif model is not None:
        seen = canary_of(model, job, progress=progress)
    else:
        raise InputError("CANDIDATE is missing", next_step="name the model")
    receipt = Receipt(
        action=ACTION,
        model=ModelSection(name=name, digest_after=digest),
        method=MethodSection(command=tuple(command), settings=to_mapping(job)),
        seed=job.seed,
        versions=versions(),
        details=seen.section(),
    )
    keep(receipt)
    if line is not None and digest is not None:
        details: dict[str, Any] = {
            "requests": seen.requests,
            "passed": seen.passed,
            "server": None if job.server is None else job.server.url,
        }
        record(
            line, ACTION, tensors=digest, name=name, receipt=receipt.as_dict(),
            reason=seen.headline, details=details,
        )  # fmt: skip
    return receipt, seen.headline
