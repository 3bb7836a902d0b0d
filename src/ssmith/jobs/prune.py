"""Cut one model: plan, cut, save, with the receipt and the plan inside."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ssmith import api
from ssmith.core.budget import Budget
from ssmith.core.errors import InputError
from ssmith.core.plan import Plan
from ssmith.core.receipt import Receipt
from ssmith.criteria import Criterion, by_name
from ssmith.families import SequenceModel
from ssmith.surgery.apply import Mode

PLAN = "plan.json"
RECEIPT = "receipt.json"


@dataclass(frozen=True, kw_only=True)
class PruneConfig:
    """How much to cut, and by what.

    Args:
        ratio: fraction of all states to remove, in [0, 1).
        method: criterion, by name.
        settings: settings of the criterion that differ from its defaults.
        min_per_layer: states that stay in every layer at least, ≥ 0.

    Raises:
        InputError: if a value is outside its domain.
    """

    ratio: float
    method: str = "last"
    settings: Mapping[str, str | int] = field(default_factory=dict)
    min_per_layer: int = 0

    def __post_init__(self) -> None:
        self.criterion()
        self.budget()

    def criterion(self) -> Criterion:
        """Return the criterion with its settings.

        Returns:
            The criterion.

        Raises:
            InputError: if there is no such criterion or setting.
        """
        found = by_name(self.method)
        # A criterion is a dataclass by convention; the protocol cannot say so.
        known = [item.name for item in dataclasses.fields(found)]  # type: ignore[arg-type]
        unknown = sorted(set(self.settings) - set(known))
        if unknown:
            raise InputError(
                f"{self.method} has no setting {', '.join(unknown)}",
                allowed=", ".join(known) or "none",
            )
        changed: Criterion = dataclasses.replace(found, **self.settings)  # type: ignore[type-var]
        return changed

    def budget(self) -> Budget:
        """Return what may be removed."""
        return Budget(states=self.ratio, min_per_layer=self.min_per_layer)


def plan_for(model: SequenceModel, how: PruneConfig | Path) -> Plan:
    """Make a plan for a model, or read one.

    Args:
        model: the model to cut; it is not changed.
        how: what to remove, or the file of a plan.

    Returns:
        A plan that fits the model.

    Raises:
        PlanError: if the plan does not fit the model, or the budget cannot be met.
    """
    if isinstance(how, Path):
        plan = Plan.load(how)
        # Tried on a copy, so that a dry run finds what the real one would.
        api.prune_(copy.deepcopy(model), plan, "mask")
        return plan
    return api.plan(model, how.criterion(), how.budget())


def cut_and_save(
    model: SequenceModel,
    plan: Plan,
    mode: Mode,
    out: Path,
    *,
    name: str,
    command: Sequence[str] = (),
    overwrite: bool = False,
) -> Receipt:
    """Cut a model and save it, whole or not at all.

    Args:
        model: changed in place.
        plan: what to keep.
        mode: ``"shrink"`` or ``"mask"``.
        out: the directory to make.
        name: what the user called the model.
        command: the command line to repeat it, for the receipt.
        overwrite: replace what is there.

    Returns:
        The receipt, which also lies in the directory.
    """
    done = api.prune_(model, plan, mode)
    receipt = dataclasses.replace(
        done,
        model={**done.model, "name": name, "task": model.config.task},
        method={**done.method, "command": list(command)},
    )
    api.save(
        model,
        out,
        overwrite=overwrite,
        parent=plan.model_digest,
        facts={"title": "Pruned state space model", "text": [str(plan).splitlines()[0] + "."]},
        extra_files={PLAN: plan.to_json(), RECEIPT: receipt.to_json()},
    )
    return receipt
