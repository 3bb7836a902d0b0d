"""Apply a plan to selective layers: cut entries of A_log, or shrink by whole state columns."""

from __future__ import annotations

from typing import Any

from torch import nn

from ssmith.core.errors import PlanError
from ssmith.core.plan import Plan
from ssmith.core.receipt import Receipt, versions
from ssmith.core.selective import COLUMNS, ENTRIES
from ssmith.families import model_digest
from ssmith.families.mamba.selective import SelectiveLayer
from ssmith.families.registry import find_selective


def prune_by_plan_(model: nn.Module, plan: Plan, *, check_weights: bool = True) -> Receipt:
    """Cut the selective layers of a model in place. All the plan says is done, or nothing.

    Args:
        model: changed in place.
        plan: what to keep, in entries or columns.
        check_weights: refuse a plan that was made for other weights.

    Returns:
        What was removed.

    Raises:
        PlanError: if the plan does not fit the model.
        UnsupportedError: if the model has no selective layer that can be cut.
    """
    layers = find_selective(model)
    before = model_digest(model)
    _check(plan, layers)
    if check_weights and plan.model_digest != before:
        raise PlanError(
            f"the plan is for weights {plan.model_digest[:12]}…, the model has {before[:12]}…",
            allowed="the model the plan was made for",
            next_step="make the plan again, or pass check_weights=False to apply it anyway",
        )
    parameters = sum(item.numel() for item in model.parameters())
    counts = [_active(layers, plan.unit)]
    for name, keep in plan.keep.items():
        if plan.unit == ENTRIES:
            layers[name].cut_entries_(keep, plan.semantics or "")
        else:
            layers[name].shrink_columns_(keep)
    counts.append(_active(layers, plan.unit))
    settle_(model)
    return Receipt(
        action="prune",
        model={
            "name": type(model).__name__, "layers": len(layers), "digest_before": before,
            "digest_after": model_digest(model),
            "parameters": {
                "before": parameters, "after": sum(item.numel() for item in model.parameters())
            },
        },
        method={
            "criterion": plan.criterion, "budget": plan.budget,
            "semantics": {plan.unit: plan.semantics},
        },
        seed=None,
        versions=versions(),
        removed={
            plan.unit: {
                "before": counts[0], "after": counts[1], "fraction": 1 - counts[1] / counts[0]
            }
        },
        findings=[finding.as_dict() for finding in plan.findings],
        details={
            "layers": [
                {"name": name, "before": keep.numel(), "after": int(keep.sum())}
                for name, keep in plan.keep.items()
            ]
        },
    )  # fmt: skip


def settle_(model: Any) -> None:
    """Write the number of states into a model's configuration, if all its layers share one.

    Args:
        model: a transformers language model whose layers were cut.
    """
    sizes = {layer.n for layer in find_selective(model).values()}
    if len(sizes) == 1:
        model.config.state_size = sizes.pop()


def _check(plan: Plan, layers: dict[str, SelectiveLayer]) -> None:
    if plan.unit not in (ENTRIES, COLUMNS):
        raise PlanError(f"the plan cuts {plan.unit!r}", allowed=f"{ENTRIES!r} or {COLUMNS!r}")
    wanted = "remove" if plan.unit == COLUMNS else "memoryless, unit-decay or fast-decay"
    if (plan.semantics == "remove") != (plan.unit == COLUMNS) or plan.semantics is None:
        raise PlanError(f"{plan.unit} are cut as {plan.semantics!r}", allowed=wanted)
    if set(plan.keep) != set(layers):
        missing, unknown = set(layers) - set(plan.keep), set(plan.keep) - set(layers)
        raise PlanError(
            f"the plan lacks the layers {sorted(missing)} and names unknown ones {sorted(unknown)}",
            allowed=f"exactly {sorted(layers)}",
            next_step="make the plan for this model",
        )
    for name, keep in plan.keep.items():
        layer = layers[name]
        grid = (layer.e, layer.n) if plan.unit == ENTRIES else (layer.n,)
        if tuple(keep.shape) != grid or not bool(keep.any()):
            raise PlanError(
                f"layer {name}: the plan has {plan.unit} of shape {tuple(keep.shape)} and keeps "
                f"{int(keep.sum())}",
                allowed=f"{grid}, at least one kept",
                next_step="make the plan for this model",
            )
        if plan.unit == ENTRIES and layer.semantics not in (None, plan.semantics):
            raise PlanError(
                f"layer {name}: entries were cut as {layer.semantics!r}, the plan says "
                f"{plan.semantics!r}",
                allowed="one semantics for all cut entries of a model",
            )


def _active(layers: dict[str, SelectiveLayer], unit: str) -> int:
    if unit == COLUMNS:
        return sum(layer.n for layer in layers.values())
    return sum(int(layer.present.sum()) for layer in layers.values())
