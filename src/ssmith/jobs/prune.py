"""Cut one model: plan, cut, save, with the receipt and the plan inside."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ssmith import api
from ssmith.core.budget import Budget, check_fraction
from ssmith.core.compensation import Compensation
from ssmith.core.names import unknown_name
from ssmith.core.plan import Plan
from ssmith.core.receipt import Receipt
from ssmith.core.sequences import Sequences
from ssmith.criteria import Criterion
from ssmith.families import SequenceModel
from ssmith.jobs.by_layer import refit_by_layer
from ssmith.jobs.methods import Method, method_named
from ssmith.jobs.outputs import PLAN, RECEIPT
from ssmith.surgery.apply import Mode


@dataclass(frozen=True, kw_only=True)
class PruneConfig:
    """How much to cut, and by what.

    Args:
        ratio: fraction of all states to remove, in [0, 1).
        method: criterion, by name, with ``+refit`` behind it to refit what stays.
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
        self.how()
        # Called by the name users say, before the budget calls it by its unit.
        check_fraction("ratio", self.ratio)
        self.budget()

    def how(self) -> Method:
        """Return the method, its criterion with its settings.

        Returns:
            The method.

        Raises:
            InputError: if there is no such criterion or setting.
        """
        named = method_named(self.method)
        found = named.criterion
        # A criterion is a dataclass by convention; the protocol cannot say so.
        known = [item.name for item in dataclasses.fields(found)]  # type: ignore[arg-type]
        unknown = sorted(set(self.settings) - set(known))
        if unknown:
            raise unknown_name(
                f"{self.method} has no setting {', '.join(unknown)}", unknown[0], known or ["none"]
            )
        changed: Criterion = dataclasses.replace(found, **self.settings)  # type: ignore[type-var]
        return dataclasses.replace(named, criterion=changed)

    def budget(self) -> Budget:
        """Return what may be removed."""
        return Budget(states=self.ratio, min_per_layer=self.min_per_layer)


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What will be done to a model.

    Args:
        plan: what stays.
        compensation: new read-outs of what stays; as they are if None.
    """

    plan: Plan
    compensation: Compensation | None = None


def decide(
    model: SequenceModel, how: PruneConfig | Path, part: Sequences | None = None
) -> Decision:
    """Make a plan for a model, or read one, and refit what stays if there are sequences to do so.

    Args:
        model: the model to cut; it is not changed.
        how: what to remove, or the file of a plan.
        part: sequences to refit read-outs on; nothing is refitted if None.

    Returns:
        A plan that fits the model, with its compensation.

    Raises:
        InputError: if the method refits and there are no sequences.
        PlanError: if the plan does not fit the model, or the budget cannot be met.
    """
    if isinstance(how, Path):
        plan = Plan.load(how)
        # Tried on a copy, so that a dry run finds what the real one would.
        api.prune_(copy.deepcopy(model), plan, "mask")
        if part is None:
            return Decision(plan=plan)
        plan, found = refit_by_layer(model, plan, part)
        return Decision(plan=plan, compensation=found)
    method = how.how()
    if part is not None and method.refit == "none":
        method = dataclasses.replace(method, refit="by layer")
    prepared = method.prepare(model, part)
    plan, compensation = method.decide(model, prepared, how.budget(), part)
    return Decision(plan=plan, compensation=compensation)


def cut_and_save(
    model: SequenceModel,
    decision: Decision,
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
        decision: what to keep, and how it makes up for what goes.
        mode: ``"shrink"`` or ``"mask"``.
        out: the directory to make.
        name: what the user called the model.
        command: the command line to repeat it, for the receipt.
        overwrite: replace what is there.

    Returns:
        The receipt, which also lies in the directory.
    """
    plan = decision.plan
    done = api.prune_(model, plan, mode, compensation=decision.compensation)
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
