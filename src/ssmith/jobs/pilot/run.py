"""The pilot, stage by stage."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssmith import api
from ssmith.artefact import locate
from ssmith.core.budget import Budget
from ssmith.core.plan import Plan
from ssmith.core.progress import Progress, silent
from ssmith.core.receipt import Receipt, versions
from ssmith.core.scores import Scores
from ssmith.core.sequences import SequenceData, Sequences
from ssmith.evaluation import (
    Comparison,
    Estimate,
    Evidence,
    Metric,
    OwnComparison,
    OwnMetric,
    ParityReport,
    Task,
    compare_outcomes,
    compare_own,
    default_task,
    estimate_saving,
    judge,
    own_metric,
    predict,
)
from ssmith.families import SequenceModel, model_digest
from ssmith.jobs.outputs import RECEIPT
from ssmith.jobs.pilot.config import AUTO_WITHOUT_DATA, PilotConfig, method_named
from ssmith.jobs.pilot.costs import measure_costs
from ssmith.jobs.pilot.frame import MODEL, Frame, about
from ssmith.jobs.pilot.language import pilot_language
from ssmith.jobs.pilot.language_config import LanguagePilotConfig
from ssmith.jobs.pilot.recovery import Recovery
from ssmith.jobs.pilot.store import Store
from ssmith.jobs.pilot.sweep import (
    best_of,
    between,
    layer_details,
    measured_point,
    sweep,
    within,
)
from ssmith.jobs.prune import Calibration
from ssmith.jobs.source import reads_text
from ssmith.spine.lti import StatePlanner


def pilot(
    model: str,
    data: str,
    out: Path,
    config: PilotConfig | LanguagePilotConfig | None = None,
    *,
    resume: bool = False,
    overwrite: bool = False,
    command: Sequence[str] = (),
    progress: Progress = silent,
) -> Receipt:
    """Find the largest cut within a tolerance, make it, prove it, judge it and report it.

    The cut is chosen on the selection split and judged on the test split, which nothing
    else looks at. Leaves ``receipt.json``, ``report.html``, ``plots/``, ``plan.json``, ``model/``
    and the intermediate results in ``stages/``. A killed run that is resumed ends with the same
    bytes.

    Args:
        model: a directory, a hub id or ``embedded:NAME``.
        data: ``embedded:NAME`` or a file; for a language model a text (see `ssmith.load_text`).
        out: directory for everything.
        config: what to try and what to accept; a `LanguagePilotConfig` for a language model.
        resume: go on with an interrupted run in ``out``.
        overwrite: throw away an earlier pilot in ``out``.
        command: the command line to repeat it, for the receipt.
        progress: told after each part.

    Returns:
        The receipt; ``verdict["accepted"]`` says how it went.

    Raises:
        SsmithError: for bad input; nothing is written then.
    """
    frame = Frame(out=out, resume=resume, overwrite=overwrite, command=command, progress=progress)
    if isinstance(config, LanguagePilotConfig) or (config is None and reads_text(model)):
        return pilot_language(model, data, frame, config)
    settings = config or PilotConfig()
    frame.refuse_early(model, data, *_file_of(settings.own_metric))
    dense = api.load_sequence_model(model)
    # With auto a train split may be missing: then the methods that need none are left.
    fitted = settings.needs_data() and not settings.is_auto
    recovers = settings.recover is not None
    needs = ("train",) * (fitted or recovers) + ("validation",) * recovers + ("selection", "test")
    sequences = api.load_data(data, dense, needs=needs)
    if settings.is_auto and not len(sequences.splits.get("train", ())):
        settings = dataclasses.replace(settings, method=AUTO_WITHOUT_DATA)
    identity = {
        "model": {"name": model, "digest": model_digest(dense)},
        "data": sequences.describe(),
        "config": settings.as_dict(),
        "versions": versions(),
    }
    return frame.run(
        identity,
        _Run(
            name=model,
            store=frame.store,
            config=settings,
            dense=dense,
            data=sequences,
            task=default_task(dense.config.task),
            own=_own(settings),
            recovery=Recovery.from_sequences(dense, sequences, settings, frame),
            progress=progress,
        ),
    )


@dataclass(frozen=True, kw_only=True)
class _Cut:
    """A cut that was made, and how."""

    plan: Plan
    scores: Scores
    shrunk: SequenceModel
    done: Receipt


@dataclass(frozen=True, kw_only=True)
class _Run:
    """What the stages of one pilot share."""

    name: str
    store: Store
    config: PilotConfig
    dense: SequenceModel
    data: SequenceData
    task: Task
    own: OwnMetric | None
    recovery: Recovery | None
    progress: Progress

    @property
    def metric(self) -> Metric:
        """What the task measures."""
        return self.task.metric

    def about(self) -> dict[str, Any]:
        """Return what the model is, for the receipt."""
        return about(self.name, self.dense, self.dense.config.task)

    def curve(self) -> dict[str, Any]:
        """Sweep all criteria, refine the chosen one, and choose the cut."""
        config, part = self.config, self.data.split("selection")
        dense = self.store.once("baseline", lambda: self._measure(self.dense, part).as_dict())
        names = config.methods()
        swept = {}
        for index, name in enumerate(names):
            swept[name] = self._sweep(f"sweep-{name}", name, sorted(config.fractions), part)
            self.progress("sweep", index + 1, len(names), swept[name]["label"])
        limit = (dense["value"], self.metric, config.max_loss)
        best = best_of({name: swept[name]["points"] for name in config.candidates()}, *limit)
        own = swept[best]
        good = within(own["points"], *limit)
        more = between(sorted(config.fractions), good, config.refine)
        if more:
            refined = self._sweep(f"refine-{best}", best, more, part)
            points = sorted(own["points"] + refined["points"], key=lambda item: item["fraction"])
            own = swept[best] = {**own, "points": points}
            good = within(points, *limit)
        chosen = {"method": own["label"], **own["points"][good - 1]} if good else None
        recovered = {}
        if self.recovery is not None:
            label = f"{own['label']} + {config.recover}"
            fractions = [point["fraction"] for point in own["points"][max(good - 1, 0) :]]
            points = self.recovery.walk(
                fractions, lambda fraction: self._recovered_point(best, fraction), limit
            )
            recovered[label] = points
            fine = within(points, *limit)
            chosen = {"method": label, **points[fine - 1]} if fine else chosen
        return {
            "metric": self.metric.name,
            "higher_is_better": self.metric.higher_is_better,
            "split": "selection",
            "count": len(part),
            "dense": dense,
            "tolerance": config.max_loss,
            "method": best,
            "chosen": chosen,
            "methods": {item["label"]: item["points"] for item in swept.values()} | recovered,
        }

    def cut_and_judge(self, name: str, chosen: dict[str, Any]) -> dict[str, Any]:
        """Cut, save, check, measure and judge; return the receipt's sections."""
        out = self.store.out
        cut = self._cut(name, chosen["fraction"])
        plan, done, shrunk, recovered = cut.plan, cut.done, cut.shrunk, None
        plan.save(out)
        if self.recovery is not None and chosen.get("recovered", False):
            shrunk = copy.deepcopy(shrunk)
            recovered = self.recovery.apply_(shrunk, self.dense, chosen["fraction"])
        # Written anew also by a resumed run: the same bytes, and never half of them.
        api.save(
            shrunk,
            out / MODEL,
            overwrite=True,
            parent=plan.model_digest,
            facts={"title": "Shrunk state space model", "text": [str(plan).splitlines()[0] + "."]},
            extra_files={**plan.files(), RECEIPT: done.to_json().encode()},
        )
        self.progress("cut", 1, 1, f"{plan.cuts[0].kept} of {plan.cuts[0].total} states kept")
        measured = self.store.once("measured", lambda: self._measured(cut, shrunk))
        self.progress("compare", 1, 1, str(measured["verdict"]["headline"]))
        return {
            **measured,
            "removed": done.removed,
            "findings": [*done.findings, *measured["findings"]],
            "layers": layer_details(cut.scores, plan),
            "budget": plan.cuts[0].budget,
            "criterion": plan.cuts[0].method,
            "refit": plan.facts.get("refit"),
            "recovery": None if recovered is None else recovered.as_dict(),
            "digest_after": model_digest(shrunk),
        }

    def _cut(self, name: str, fraction: float) -> _Cut:
        planner = StatePlanner(
            self.dense, method_named(name, self.config.seed), self._calibration()
        )
        plan = planner.plan(Budget("state", fraction))
        shrunk = copy.deepcopy(self.dense)
        done = api.prune_(shrunk, plan)
        return _Cut(plan=plan, scores=planner.scores, shrunk=shrunk, done=done)

    def _recovered_point(self, name: str, fraction: float) -> dict[str, Any]:
        facts: dict[str, Any] = {}

        def attempt(fraction: float, removed: Callable[[float], None]) -> Estimate:
            cut = self._cut(name, fraction)
            removed(cut.plan.cuts[0].sparsity)
            if self.recovery is not None:
                done = self.recovery.apply_(cut.shrunk, self.dense, fraction)
                facts["validation"] = done.validation
            return self._measure(cut.shrunk, self.data.split("selection"))

        return {**measured_point(fraction, attempt), **facts}

    def _parity(self, cut: _Cut, shrunk: SequenceModel) -> ParityReport:
        """Check the cut before any recovery, and the model that is left after it."""
        masked = copy.deepcopy(self.dense)
        api.prune_(masked, cut.plan, "mask")
        part, saved = self.data.split("selection"), self.store.out / MODEL
        return api.parity(masked, cut.shrunk, saved, part, recovered=shrunk)

    def _measured(self, cut: _Cut, shrunk: SequenceModel) -> dict[str, Any]:
        config, done = self.config, cut.done
        part = self.data.split("selection")
        parity = self._parity(cut, shrunk)
        self.progress("parity", 1, 1)
        costs = measure_costs(
            (self.dense, shrunk),
            (locate(self.name), self.store.out / MODEL),
            part.first(config.batch_size),
            config.speed(),
        )
        self.progress("speed", 1, 1)
        comparison, own = self._compared(shrunk)
        evidence = Evidence(
            comparison=comparison,
            parity=parity,
            changes=costs.changes(),
            removed=done.removed,
            own=own,
        )
        return {
            "quality": comparison.as_dict(split="test", own=None if own is None else own.as_dict()),
            "parity": parity.as_dict(),
            **costs.sections(),
            "findings": costs.findings(),
            "saving": estimate_saving(
                config.load(),
                per_sequence=costs.speed.per_sequence,
                batch_size=costs.speed.batch_size,
                path=costs.speed.path,
            ),
            "verdict": judge(evidence, config.limits()),
        }

    def _compared(self, shrunk: SequenceModel) -> tuple[Comparison, OwnComparison | None]:
        """Compare on the test split; nothing before this looks at it."""
        config, test = self.config, self.data.split("test")
        before, after = (predict(item, test, config.batch_size) for item in (self.dense, shrunk))
        outcomes = [self.task.of_outputs(item, test.y) for item in (before, after)]
        comparison = compare_outcomes(outcomes[0], outcomes[1], self.metric, seed=config.seed)
        if self.own is None:
            return comparison, None
        return comparison, compare_own(self.own, before, after, test.y, seed=config.seed)

    def _measure(self, model: SequenceModel, part: Sequences) -> Estimate:
        config = self.config
        return api.evaluate(model, part, self.task, seed=config.seed, batch_size=config.batch_size)

    def _calibration(self) -> Sequences | None:
        if not self.config.needs_data():
            return None
        drawn = Calibration(samples=self.config.calibration, seed=self.config.seed)
        return drawn.sequences(self.data)

    def _sweep(
        self, stage: str, name: str, fractions: Sequence[float], part: Sequences
    ) -> dict[str, Any]:
        result: dict[str, Any] = self.store.once(
            stage,
            lambda: sweep(
                self.dense,
                method_named(name, self.config.seed),
                fractions,
                lambda model: self._measure(model, part),
                self._calibration(),
            ),
        )
        return result


def _own(config: PilotConfig) -> OwnMetric | None:
    if config.own_metric is None:
        return None
    return own_metric(config.own_metric, higher_is_better=not config.own_lower_is_better)


def _file_of(metric: str | None) -> list[str]:
    """Return the file of a metric ``"file.py:function"``; a module's name is no file."""
    return [] if metric is None else [metric.rpartition(":")[0]]
