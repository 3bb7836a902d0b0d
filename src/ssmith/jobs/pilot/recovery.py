"""The part of a pilot that lets a cut language model learn to make up for its cut."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from ssmith.core.plan import Plan
from ssmith.core.seeds import derive
from ssmith.core.selective import ENTRIES
from ssmith.core.text import Text
from ssmith.core.tokens import TokenWindows
from ssmith.evaluate.parity import max_difference
from ssmith.families.hf.holding import masks
from ssmith.families.hf.selective import find_selective
from ssmith.jobs.pilot.language_config import LanguagePilotConfig
from ssmith.jobs.pilot.store import STAGES, Store
from ssmith.jobs.progress import Progress
from ssmith.jobs.tuning.recovery import Recovered, RecoveryConfig, check_recovery, recover_


@dataclass(frozen=True, kw_only=True)
class Recovery:
    """How every cut of a pilot is recovered.

    Args:
        config: methods and training.
        train: windows to learn from.
        validation: windows that choose the best step.
        store: of the pilot; checkpoints lie beside its stages.
        progress: told how far it is.
    """

    config: RecoveryConfig
    train: TokenWindows
    validation: TokenWindows
    store: Store
    progress: Progress

    @classmethod
    def of(
        cls,
        dense: nn.Module,
        text: Text,
        settings: LanguagePilotConfig,
        store: Store,
        progress: Progress,
    ) -> Recovery | None:
        """Return how cuts are recovered, or None if they are not.

        Args:
            dense: the model, as a test that the methods fit it.
            text: to learn from.
            settings: of the pilot.
            store: of the pilot.
            progress: told how far it is.

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
        return cls(
            config=config,
            train=text.sample(wanted, settings.length, seed=seed),
            validation=settings.text("validation").cut(text),
            store=store,
            progress=progress,
        )

    def apply_(self, pruned: nn.Module, dense: nn.Module, fraction: float) -> Recovered:
        """Recover a cut model in place.

        Args:
            pruned: the cut model.
            dense: what it imitates.
            fraction: that was cut, which names the checkpoints.

        Returns:
            What happened.
        """
        return recover_(
            pruned,
            dense,
            (self.train, self.validation),
            self.config,
            place=self.store.out / STAGES / f"recover-{fraction:g}",
            progress=self.progress,
        )

    def describe(self) -> dict[str, Any]:
        """Return the windows, for the data section of a receipt."""
        return {
            "recovery": self.train.describe(),
            "recovery_validation": self.validation.describe(),
        }


def cut_difference(model: nn.Module, plan: Plan) -> float:
    """Return by how much what a plan cut from a model is not as the cut left it.

    Args:
        model: the model after the cut, and after whatever came then.
        plan: what was cut.

    Returns:
        The largest difference of a cut entry from the value it was given, infinity where one is
        free again; of whole columns, how many too many or too few a layer has.
    """
    if plan.unit != ENTRIES:
        layers = find_selective(model)
        return float(max(abs(layers[name].n - int(keep.sum())) for name, keep in plan.keep.items()))
    held = {name: (mask, fill) for name, mask, fill in masks(model)}
    parameters = dict(model.named_parameters())
    worst = 0.0
    for layer, keep in plan.keep.items():
        name = f"{layer}.A_log"
        mask, fill = held.get(name, (keep | True, 0.0))
        if bool(mask.cpu()[~keep].any()):
            return float("inf")
        cut = parameters[name].detach().cpu()[~keep]
        worst = max(worst, max_difference(cut, cut.new_full(cut.shape, fill)))
    return worst
