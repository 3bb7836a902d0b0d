"""Merging an adapter into its base where that is exact; refusing, with the reason, where not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ssmith.core.errors import InputError, UnsupportedError
from ssmith.families.examples import example_batch, main_output
from ssmith.tune.adapters.attach import detach_
from ssmith.tune.adapters.part import LinearPart, Part, TensorPart
from ssmith.tune.adapters.registry import check_name
from ssmith.tune.adapters.slot import Slot, slots
from ssmith.tune.adapters.switch import use_


@dataclass(frozen=True, kw_only=True)
class MergeReport:
    """What merging did.

    Args:
        merged: dotted names of the base parameters that were written.
        left: parts that stay attached, with the reason.
        difference: largest absolute change of the output, with against without the adapter's
            parts, measured on the batch; None if there was none to run.
        output_size: largest absolute output on that batch.
    """

    merged: tuple[str, ...]
    left: dict[str, str]
    difference: float | None
    output_size: float | None


@torch.no_grad()
def merge_(
    model: nn.Module,
    name: str = "default",
    *,
    allow_partial: bool = False,
    batch: Mapping[str, Tensor] | None = None,
) -> MergeReport:
    """Write an adapter into the base model's weights, and take it off.

    What was pruned in the base stays pruned: adapters never changed it.

    Args:
        model: with the adapter attached.
        name: of the adapter; the only active one after a part of it is left.
        allow_partial: merge what can be merged, and leave the rest attached.
        batch: arguments of the model's forward to measure the difference on; random if None.

    Returns:
        What was written, and how much the output changed by rounding.

    Raises:
        InputError: if there is no such adapter.
        UnsupportedError: if a part cannot be merged; nothing was changed.
    """
    check_name(model, name)
    left = _left(model, name)
    if left and not allow_partial:
        place, reason = next(iter(left.items()))
        raise UnsupportedError(
            f"{place} cannot be merged: {reason}",
            allowed="LoRA, DoRA and trained parameters of the model itself",
            next_step="save it as an adapter, or pass allow_partial=True to merge the others",
        )
    use_(model, (name,))
    inputs = _batch(model, batch)
    before = None if inputs is None else _output(model, inputs)
    merged: dict[str, None] = {}
    for owner, module, slot in list(slots(model)):
        for key, parameter in _merge_slot(module, slot, name):
            merged[f"{owner}.{parameter}".lstrip(".")] = None
            slot.drop(name, key)
    if not left:
        detach_(model, name)
    after = None if inputs is None else _output(model, inputs)
    return MergeReport(
        merged=tuple(merged),
        left=left,
        difference=None if before is None or after is None else float((after - before).abs().max()),
        output_size=None if before is None else float(before.abs().max()),
    )


def _left(model: nn.Module, name: str) -> dict[str, str]:
    return {
        f"{owner}.{key}".lstrip("."): part.cannot_merge
        for owner, _, slot in slots(model)
        for key, part in slot.of(name)
        if part.cannot_merge
    }


def _merge_slot(module: Any, slot: Slot, name: str) -> list[tuple[str, str]]:
    """Write the parts of one module; return their keys and the parameters written."""
    parts = list(slot.of(name))
    done = []
    for key, part in sorted(parts, key=_tensors_first):
        if isinstance(part, TensorPart):
            base = module._parameters[part.parameter]
            base.copy_(part.of(base))
            done.append((key, part.parameter))
        elif isinstance(part, LinearPart):
            module._parameters["weight"].copy_(part.merged(module))
            done.append((key, "weight"))
    return done


def _tensors_first(item: tuple[str, Part]) -> bool:
    # LoRA changes the weight that was trained, so that one is written first.
    return not isinstance(item[1], TensorPart)


def _batch(model: nn.Module, batch: Mapping[str, Tensor] | None) -> dict[str, Tensor] | None:
    if batch is not None:
        return dict(batch)
    try:
        return example_batch(model)
    except InputError:
        return None


def _output(model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    training = model.training
    model.eval()
    try:
        return main_output(model(**inputs)).double()
    finally:
        model.train(training)
