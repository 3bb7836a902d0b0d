"""Quality against removed units, for every method, on the selection split."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from ssmith.core.curve import Curve, Limit, Point, between
from ssmith.core.errors import NumericalError, PlanError
from ssmith.core.progress import Progress, part_of, silent
from ssmith.core.sections import Measured
from ssmith.core.sequences import Sequences
from ssmith.core.threshold import Threshold
from ssmith.evaluation import Estimate, OwnMetric, answers_of_own
from ssmith.evaluation.gate import within_own
from ssmith.evaluation.naive import Naive, scale_of
from ssmith.jobs.pilot.cut import Cutter, Made
from ssmith.jobs.pilot.directory import RunDirectory
from ssmith.jobs.pilot.recovery import Recovery
from ssmith.jobs.pilot.subject import Subject
from ssmith.jobs.tuning.recovery import Recovered

Measure = Callable[[Any], Estimate]


@dataclass(frozen=True, kw_only=True)
class Dense:
    """The metric before any cut, on how many rows, and that of a naive answer."""

    value: float
    low: float | None
    high: float | None
    count: int
    naive: Naive | None


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """Measures cuts, and chooses one.

    Points are kept in the directory and measured on the selection split; a tolerance of the user's
    own metric is kept there as well.
    """

    subject: Subject
    cutter: Cutter
    recovery: Recovery | None
    directory: RunDirectory
    measure: Measure
    own: OwnMetric | None
    progress: Progress

    def run(self) -> Curve:
        """Sweep all methods, refine and recover the best one, and choose the cut."""
        subject, config = self.subject, self.cutter.config
        metric = subject.task.metric
        found = self.directory.cached("baseline", Dense, self._baseline)
        limit = Limit(
            dense=found.value,
            higher_is_better=metric.higher_is_better,
            tolerance=self._tolerance(found),
        )
        names, swept = self.cutter.methods(), self._swept(config.sparsities or ())
        own = {self.cutter.label(name) for name in self.cutter.candidates()}
        best = limit.best_of({label: points for label, points in swept.items() if label in own})
        swept[best] = self._refined(names[best], swept[best], limit)
        good = limit.within(swept[best])
        chosen, point = (best, swept[best][good - 1]) if good else ("", None)
        if self.recovery is not None:
            label = f"{best} + {config.recover}"
            asked = [item.sparsity for item in swept[best][max(good - 1, 0) :]]
            swept[label] = self._recovered(self.recovery, names[best], asked, limit)
            fine = limit.within(swept[label])
            chosen, point = (label, swept[label][fine - 1]) if fine else (chosen, point)
        return Curve(
            metric=metric.name,
            higher_is_better=metric.higher_is_better,
            split="selection",
            count=found.count,
            counted=metric.counted,
            dense=Point(
                sparsity=0.0,
                removed=0.0,
                value=found.value,
                low=found.low,
                high=found.high,
            ),
            tolerance=limit.tolerance,
            method=names[best],
            chosen=chosen,
            point=point,
            methods={label: tuple(points) for label, points in swept.items()},
        )

    def cut(
        self, method: str, sparsity: float, progress: Progress, *, recovered: bool = False
    ) -> tuple[Made, nn.Module, Recovered | None]:
        """Make a cut, and recover it if asked to."""
        if self.recovery is None or not recovered:
            made = self.cutter.make(method, sparsity, progress=progress)
            return made, made.model, None
        made = self.cutter.make(
            method, sparsity, terms=self.recovery.config.terms(), progress=progress
        )
        # The cut itself is compared with a masked model later on.
        left = made.model if made.masked is None else copy.deepcopy(made.model)
        return made, left, self.recovery.apply_(left, self.subject.model, sparsity)

    def _tolerance(self, dense: Dense) -> float:
        """Return how much may be lost, in the metric's own unit, and say how that was read."""
        threshold = Threshold.read(self.cutter.config.max_loss)
        scale = scale_of(self.subject.task.metric, dense.value, dense.naive)
        found = threshold.loss(scale)
        self.progress("dense model", 1, 1, f"allowed: {threshold.said(scale)}")
        return found

    def _refused(self, left: nn.Module) -> str:
        """Return why the own metric lets no cut go further, empty if it does or is not judged."""
        own, most, rows = self.own, self.cutter.config.own_max_loss, self.subject.selection
        if own is None or most is None or not isinstance(rows, Sequences):
            return ""

        def measured(model: nn.Module) -> Measured:
            size = self.cutter.config.batch_size or 1
            return Measured(value=own(*answers_of_own(model, rows, size)))

        dense = self.directory.cached(
            "baseline-own", Measured, lambda: measured(self.subject.model)
        )
        passed, said = within_own(own, dense.value, measured(left).value, most)
        return "" if passed else f"{own.name}: {said}"

    def _baseline(self) -> Dense:
        found = self.measure(self.subject.model)
        return Dense(**found.as_dict(), count=found.count, naive=found.naive)

    def _swept(self, sparsities: Sequence[float]) -> dict[str, list[Point]]:
        names = self.cutter.methods()
        done, total = 0, len(names) * len(sparsities)
        swept: dict[str, list[Point]] = {}
        for label, name in names.items():
            for sparsity in sparsities:
                inner = part_of(self.progress, "sweep", done, total)
                point = self._point(f"sweep-{name}-{sparsity:g}", name, sparsity, inner)
                swept.setdefault(label, []).append(point)
                done += 1
                self.progress("sweep", done, total, f"{label}, {sparsity:g}")
        return swept

    def _refined(self, name: str, points: list[Point], limit: Limit) -> list[Point]:
        """Add points between the last one within the tolerance and the first beyond."""
        asked = [point.sparsity for point in points]
        more = between(asked, limit.within(points), self.cutter.config.refine or 0)
        found = [
            self._point(f"refine-{name}-{sparsity:g}", name, sparsity, silent) for sparsity in more
        ]
        return sorted([*points, *found], key=lambda point: point.sparsity)

    def _recovered(
        self, recovery: Recovery, name: str, sparsities: Sequence[float], limit: Limit
    ) -> list[Point]:
        """Recover ever larger cuts until one is beyond the tolerance all the same."""
        points: list[Point] = []
        for sparsity in sparsities:
            stage = f"recover-{sparsity:g}"
            points.append(self._point(stage, name, sparsity, recovery.progress, recovered=True))
            self.progress("recover", len(points), len(sparsities), f"{sparsity:g}")
            if limit.within(points) < len(points):
                break
        return points

    def _point(
        self, stage: str, name: str, sparsity: float, progress: Progress, *, recovered: bool = False
    ) -> Point:
        def measured() -> Point:
            point = Point(sparsity=sparsity, recovered=recovered)
            try:
                made, left, done = self.cut(name, sparsity, progress, recovered=recovered)
                validation = {} if done is None else done.validation
                point = replace(point, removed=made.removed, validation=validation)
                refused = self._refused(left)
                return replace(point, refused=refused, **self.measure(left).as_dict())
            except (PlanError, NumericalError) as error:
                return replace(point, why=error.what)

        return self.directory.cached(stage, Point, measured)
