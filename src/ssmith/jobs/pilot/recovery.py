"""The part of a pilot that lets a cut model learn to make up for its cut."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn

from ssmith.core.plan import Plan
from ssmith.core.progress import Progress
from ssmith.core.seeds import derive
from ssmith.core.sequences import SequenceData
from ssmith.core.text import Text
from ssmith.evaluation import Metric
from ssmith.evaluation.parity import max_difference
from ssmith.families import SequenceModel, sites
from ssmith.families.masks import masks_of
from ssmith.jobs.pilot.config import PilotConfig
from ssmith.jobs.pilot.frame import Frame
from ssmith.jobs.pilot.language_config import LanguagePilotConfig
from ssmith.jobs.pilot.store import STAGES, Store
from ssmith.jobs.pilot.sweep import within
from ssmith.jobs.tuning.recovery import (
    Recovered,
    RecoveryConfig,
    check_recovery,
    from_sequences,
    from_windows,
    recover_,
)
from ssmith.jobs.tuning.training_set import TrainingSet


@dataclass(frozen=True, kw_only=True)
class Recovery:
    """How every cut of a pilot is recovered.

    Args:
        config: methods and training.
        data: what is learned.
        about: the windows of a text, for the data section of a receipt.
        store: of the pilot; checkpoints lie beside its stages.
        progress: told how far it is.
    """

    config: RecoveryConfig
    data: TrainingSet
    about: dict[str, Any]
    store: Store
    progress: Progress

    @classmethod
    def from_text(
        cls, dense: nn.Module, text: Text, settings: LanguagePilotConfig, frame: Frame
    ) -> Recovery | None:
        """Return how cuts of a language model are recovered, or None if they are not.

        Args:
            dense: the model, as a test that the methods fit it.
            text: to learn from.
            settings: of the pilot.
            frame: where it runs.

        Returns:
            The recovery; it learns from as many windows of the training split as its steps take,
            or as there are.
        """
        config = settings.recovery()
        if config is None:
            return None
        check_recovery(dense, config)
        places = len(text.split("train")) - settings.length + 1
        wanted = max(1, min(config.steps * config.batch_size, places))
        seed = derive(settings.seed, "recovery") % 2**31
        train = text.sample(wanted, settings.length, seed=seed)
        validation = settings.text("validation").cut(text)
        return cls(
            config=config,
            data=from_windows(dense, (train, validation), config),
            about={"recovery": train.describe(), "recovery_validation": validation.describe()},
            store=frame.store,
            progress=frame.progress,
        )

    @classmethod
    def from_sequences(
        cls, dense: SequenceModel, data: SequenceData, settings: PilotConfig, frame: Frame
    ) -> Recovery | None:
        """Return how cuts of a sequence model are recovered, or None if they are not.

        Args:
            dense: the model, as a test that the methods fit it.
            data: to learn from.
            settings: of the pilot.
            frame: where it runs.

        Returns:
            The recovery; it learns from the training split.
        """
        config = settings.recovery()
        if config is None:
            return None
        check_recovery(dense, config)
        return cls(
            config=config,
            data=from_sequences(dense, data, config),
            about={},
            store=frame.store,
            progress=frame.progress,
        )

    def apply_(self, pruned: nn.Module, dense: nn.Module, fraction: float) -> Recovered:
        """Recover a cut model in place.

        Args:
            pruned: the cut model.
            dense: the teacher.
            fraction: that was cut, which names the checkpoints.

        Returns:
            What happened.
        """
        path = self.store.out / STAGES / f"recover-{fraction:g}.safetensors"
        return recover_(
            pruned, dense, self.data, self.config, checkpoint=path, progress=self.progress
        )

    def walk(
        self,
        fractions: Sequence[float],
        point: Callable[[float], dict[str, Any]],
        limit: tuple[float, Metric, float],
    ) -> list[dict[str, Any]]:
        """Recover ever larger cuts until one is beyond the tolerance all the same.

        Args:
            fractions: rising.
            point: makes, recovers and measures a cut.
            limit: the dense model's metric, its kind, and the largest loss.

        Returns:
            The points that were measured.
        """
        points: list[dict[str, Any]] = []
        for fraction in fractions:
            found = self.store.once(f"recover-{fraction:g}", partial(point, fraction))
            points.append({**found, "recovered": True})
            self.progress("recover", len(points), len(fractions), f"{fraction:g}")
            if within(points, *limit) < len(points):
                break
        return points


def cut_difference(model: nn.Module, plan: Plan) -> float:
    """Return by how much what was cut from a model is not as the cut left it.

    Args:
        model: the model after the cut, and after whatever came then.
        plan: what was cut.

    Returns:
        The largest difference of a cut entry from the value it was given, infinity where one is
        free again; of units that are gone, how many too many or too few a layer has.
    """
    held = {name: (mask, fill) for name, mask, fill in masks_of(model)}
    there, parameters = sites(model), dict(model.named_parameters())
    worst = 0.0
    for cut in plan.cuts:
        for name, keep in cut.keep.items():
            if name in there and there[name].coupling(cut.unit).modes[0] == "shrink":
                left = there[name].coupling(cut.unit).count
                worst = max(worst, float(abs(left - int(keep.sum()))))
                continue
            own = name if name in parameters else f"{name}.A_log"
            mask, fill = held.get(own, (keep | True, 0.0))
            if bool(mask.cpu()[~keep].any()):
                return float("inf")
            value = parameters[own].detach().cpu()[~keep]
            worst = max(worst, max_difference(value, value.new_full(value.shape, fill)))
    return worst
