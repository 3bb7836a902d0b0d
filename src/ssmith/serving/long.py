"""Answers to a source of any length: rows flow past, and what is answered is gone on from."""

from __future__ import annotations

import time
from collections import Counter
from importlib import import_module
from pathlib import Path
from typing import Any

from torch import nn

from ssmith import evaluation
from ssmith.core.errors import DataError, InputError
from ssmith.core.progress import Progress
from ssmith.families import model_digest, preparation_of
from ssmith.serving.answering import PART, PredictConfig, decide
from ssmith.serving.columns import columns_of, counted, score_of
from ssmith.serving.decision import Decision, fitted_before
from ssmith.serving.parts import ORDER, KeptParts, PartFacts, state_of
from ssmith.serving.rows import AskedParts, AskedRows, open_parts
from ssmith.serving.writing import table_of

_ROWS_AT_ONCE, _PAUSE = 65536, 5.0
"""Rows and seconds after which answers are kept on disk."""


def answer_long(
    model: nn.Module,
    source: str,
    out: Path,
    config: PredictConfig,
    *,
    overwrite: bool,
    progress: Progress,
) -> dict[str, Any]:
    """Answer new data into a file, as `predict` does; return what there is to say, JSON-ready.

    The same call goes on after one that was interrupted, and ends in the same bytes.
    """
    job = _Job(model, config, decide(model, config), KeptParts(out))
    job.done = job.kept.open(_identity(job, source), overwrite=overwrite)
    try:
        rows = open_parts(model, source, rows=PART, scratch=job.kept.place / ORDER)
        job.kept.finish(job.answer(rows, progress))
    except BaseException as error:
        # What was refused is refused again; of what was interrupted the parts are gone on from.
        if isinstance(error, DataError | InputError) or not job.kept.is_begun():
            job.kept.remove()
        raise
    said = (*rows.findings(), *(() if config.calibrate else fitted_before(model)))
    return {
        "rows": job.done.rows,
        "labelled": job.done.labelled,
        "decision": job.decision.as_dict(),
        "score": score_of(job.decision, job.done.sums),
        "findings": [item.as_dict() for item in said],
    }


class _Job:
    def __init__(
        self, model: nn.Module, config: PredictConfig, decision: Decision, kept: KeptParts
    ) -> None:
        self.model, self.config, self.decision, self.kept = model, config, decision, kept
        self.done = PartFacts()

    def answer(self, rows: AskedParts, progress: Progress) -> Any:
        """Answer all rows but those that are done; return the answers that are not yet kept."""
        begun, seen, waiting = time.monotonic(), 0, list[Any]()
        for part in rows.parts:
            seen += len(part.rows)
            if seen > self.done.rows:
                waiting.append(self._answered(part))
            progress("predict", rows.passed(), rows.total, f"{seen:,} rows")
            late = time.monotonic() - begun > _PAUSE
            if waiting and (late or sum(map(len, waiting)) >= _ROWS_AT_ONCE):
                self.kept.add(_joined(waiting), self.done)
                begun, waiting = time.monotonic(), []
        progress("predict", rows.total, rows.total, f"{seen:,} rows")
        return _joined(waiting) if waiting else None

    def _answered(self, part: AskedRows) -> Any:
        outputs = evaluation.predict(self.model, part.rows, self.config.batch_size)
        sums = Counter(self.done.sums)
        sums.update(counted(self.decision, outputs, part))
        self.done = PartFacts(
            rows=self.done.rows + len(part.rows),
            labelled=self.done.labelled + int(part.labelled.sum()),
            sums=dict(sums),
        )
        return table_of(columns_of(self.decision, outputs, part))


def _identity(job: _Job, source: str) -> dict[str, Any]:
    preparation = preparation_of(job.model)
    return {
        "model": model_digest(job.model),
        "preparation": {} if preparation is None else preparation.as_dict(),
        "decision": job.decision.as_dict(),
        "data": state_of(source),
        "batch_size": job.config.batch_size,
    }


def _joined(tables: list[Any]) -> Any:
    return import_module("pyarrow").concat_tables(tables, promote_options="permissive")
