"""Apply a plan: switch states off, or really remove them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

from torch import nn

from ssmith.core.compensation import Compensation
from ssmith.core.errors import PlanError
from ssmith.core.layers import STATE, Finding
from ssmith.core.names import unknown_name
from ssmith.core.plan import Plan
from ssmith.core.receipt import Receipt, versions
from ssmith.core.selective import COLUMNS, ENTRIES
from ssmith.families import LTILayer, SequenceModel, find_layers, model_digest, sites
from ssmith.surgery.selective import prune_by_plan_

Mode = Literal["mask", "shrink"]
MODES: tuple[str, ...] = get_args(Mode)


def prune_(
    model: nn.Module,
    plan: Plan,
    mode: Mode = "shrink",
    *,
    compensation: Compensation | None = None,
    check_weights: bool = True,
) -> Receipt:
    """Cut a model in place.

    ``mask`` keeps every tensor and multiplies the eigenvalue, the input row and the read-out of a
    removed state by zero; ``shrink`` removes them from the tensors. Both compute the same outputs:
    there is no state left at the removed entry (semantics "S-remove"). Either everything the plan
    says is done, or, if it does not fit, nothing.

    Args:
        model: changed in place.
        plan: what to keep.
        mode: ``"mask"`` or ``"shrink"``; plans for selective layers know it by their unit, as
            entries are masked and columns go.
        compensation: new read-outs for the states that stay; as they were if None.
        check_weights: refuse a plan that was made for other weights.

    Returns:
        What was removed, with digests, tensors and parameters before and after.

    Raises:
        InputError: if the mode is unknown.
        PlanError: if the plan or the compensation does not fit the model.
    """
    if mode not in MODES:
        raise unknown_name(f"mode is {mode!r}", str(mode), MODES)
    if plan.unit in (ENTRIES, COLUMNS):
        return prune_by_plan_(model, plan, check_weights=check_weights)
    layers = check_fits(model, plan)
    before = model_digest(model)
    if check_weights and plan.model_digest != before:
        raise PlanError(
            f"the plan is for weights {plan.model_digest[:12]}…, the model has {before[:12]}…",
            allowed="the model the plan was made for",
            next_step="make the plan again, or pass check_weights=False to apply it anyway",
        )
    if compensation is not None:
        check_compensation(compensation, layers)
    sizes, places = [_sizes(model, layers)], sites(model)
    for name, keep in plan.keep.items():
        if compensation is not None:
            layers[name].write_(compensation.readouts[name])
        places[name].cut_(places[name].coupling("state"), keep, mode)
    sizes.append(_sizes(model, layers))
    if isinstance(model, SequenceModel):
        model.config = model.current_config()
    first, second = sizes
    return Receipt(
        action="prune",
        model={
            "name": type(model).__name__,
            "family": ", ".join(sorted({layer.family for layer in layers.values()})),
            "layers": len(layers),
            "digest_before": before,
            "digest_after": model_digest(model),
        },
        method={
            "criterion": plan.criterion,
            "budget": plan.budget,
            "mode": mode,
            **({} if compensation is None else {"refit": compensation.settings}),
        },
        seed=None,
        versions=versions(),
        removed={
            plan.unit: {
                "before": first["active"],
                "after": second["active"],
                "fraction": 1 - second["active"] / first["active"] if first["active"] else 0.0,
            }
        },
        size={
            "parameters": {"before": first["parameters"], "after": second["parameters"]},
            "tensor_bytes": {"before": first["bytes"], "after": second["bytes"]},
        },
        findings=[finding.as_dict() for finding in (*plan.findings, *_findings(compensation))],
        details={
            "layers": [
                {"name": name, "grid": list(keep.shape), "before": keep.numel(),
                 "after": int(keep.sum()), **_errors(compensation, name)}
                for name, keep in plan.keep.items()
            ]
        },
    )  # fmt: skip


def check_fits(model: nn.Module, plan: Plan) -> dict[str, LTILayer]:
    """Return the layers a plan cuts.

    Args:
        model: the model to cut.
        plan: what to keep.

    Returns:
        The layers by name.

    Raises:
        PlanError: if a layer is missing, unknown or of another shape, or the unit is not states.
    """
    layers = find_layers(model)
    if plan.unit != STATE:
        raise PlanError(f"the plan cuts {plan.unit!r}", allowed=f"{STATE!r}")
    if set(plan.keep) != set(layers):
        missing = sorted(set(layers) - set(plan.keep))
        unknown = sorted(set(plan.keep) - set(layers))
        raise PlanError(
            f"the plan lacks the layers {missing} and names unknown ones {unknown}",
            allowed=f"exactly {sorted(layers)}",
            next_step="make the plan for this model",
        )
    for name, keep in plan.keep.items():
        if tuple(keep.shape) != layers[name].grid():
            raise PlanError(
                f"layer {name}: the plan has states of shape {tuple(keep.shape)}",
                allowed=str(layers[name].grid()),
                next_step="make the plan for this model; a shrunk model needs a new one",
            )
    return layers


def check_compensation(compensation: Compensation, layers: Mapping[str, LTILayer]) -> None:
    """Raise unless a compensation has a read-out of the right shape for every layer.

    Args:
        compensation: the read-outs.
        layers: the layers that are cut, as they are before the cut.

    Raises:
        PlanError: otherwise.
    """
    if set(compensation.readouts) != set(layers):
        raise PlanError(
            f"the compensation is for the layers {sorted(compensation.readouts)}",
            allowed=f"exactly {sorted(layers)}",
            next_step="refit the read-outs for this plan",
        )
    for name, readout in compensation.readouts.items():
        modes = layers[name].modes(name)
        shapes = [
            [None if item is None else tuple(item.shape) for item in (found.C, found.C_back)]
            for found in (readout, modes)
        ]
        if shapes[0] != shapes[1]:
            raise PlanError(
                f"layer {name}: the new read-outs have the shapes {shapes[0]}",
                allowed=str(shapes[1]),
                next_step="refit the read-outs for this model",
            )


def _findings(compensation: Compensation | None) -> list[Finding]:
    readouts = {} if compensation is None else compensation.readouts
    return [finding for readout in readouts.values() for finding in readout.findings]


def _errors(compensation: Compensation | None, name: str) -> dict[str, dict[str, float]]:
    """Return the layer's error before and after refitting, if it was refitted."""
    if compensation is None:
        return {}
    before, after = compensation.readouts[name].error
    return {"error": {"before": before, "after": after}}


def _sizes(model: nn.Module, layers: dict[str, LTILayer]) -> dict[str, int]:
    """Return stored states that are on, parameters, and bytes of all tensors."""
    infos = [layer.info(name) for name, layer in layers.items()]
    return {
        "active": sum(info.units[STATE] - info.masked[STATE] for info in infos),
        "parameters": sum(item.numel() for item in model.parameters()),
        "bytes": sum(item.numel() * item.element_size() for item in model.state_dict().values()),
    }
