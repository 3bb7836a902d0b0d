"""Merging an adapter into its base where that is exact; refusing, with the reason, where not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ssmith.core.details import MergeReport
from ssmith.core.errors import InputError, UnsupportedError
from ssmith.core.running import evaluating
from ssmith.families.examples import example_batch, main_output
from ssmith.families.hf.engine import accelerate_
from ssmith.tune.adapters.attach import detach_
from ssmith.tune.adapters.part import LinearPart, Part, TensorPart
from ssmith.tune.adapters.registry import check_name
from ssmith.tune.adapters.slot import Slot, slots
from ssmith.tune.adapters.switch import use_

STOCK, HELD = "stock", "ssmith"
MERGES = (STOCK, HELD)
"""Forms of a merged model: as stock transformers reads it, or with offsets held beside weights."""


@torch.no_grad()
def merge_(
    model: nn.Module,
    name: str = "default",
    *,
    allow_partial: bool = False,
    hold: bool = False,
    batch: Mapping[str, Tensor] | None = None,
) -> MergeReport:
    """Write an adapter into the base model's weights, and take it off.

    What was pruned in the base stays pruned: adapters never changed it.

    Args:
        model: with the adapter attached.
        name: of the adapter; the only active one after a part of it is left.
        allow_partial: merge what can be merged, and leave the rest attached.
        hold: let mixers hold state offsets as offsets of their own. `ssmith.save` writes those
            beside the weights and `ssmith.load` reads them; stock transformers leaves them out.
        batch: arguments of the model's forward to measure the difference on; random if None.

    Returns:
        What was written, and how much the output changed by rounding.

    Raises:
        InputError: if there is no such adapter.
        UnsupportedError: if a part cannot be merged; nothing was changed.
    """
    left = check_mergeable(model, name, allow_partial=allow_partial, hold=hold)
    use_(model, (name,))
    inputs = _batch(model, batch)
    before = None if inputs is None else _output(model, inputs)
    merged: dict[str, None] = {}
    held: dict[str, None] = {}
    for owner, module, slot in list(slots(model)):
        if hold:
            held |= dict.fromkeys(f"{owner}.{key}" for key in _hold_slot(module, slot, name))
        mine = [item for item in slot.of(name) if f"{owner}.{item[0]}".lstrip(".") not in left]
        for key, parameter in _merge_parts(module, mine):
            merged[f"{owner}.{parameter}".lstrip(".")] = None
            slot.drop(name, key)
    if not left:
        detach_(model, name)
    if held:
        # Stock code would leave the offsets out without a word.
        accelerate_(model)
    after = None if inputs is None else _output(model, inputs)
    return MergeReport(
        merged=tuple(merged),
        held=tuple(held),
        left=left,
        difference=None if before is None or after is None else float((after - before).abs().max()),
        output_size=None if before is None else float(before.abs().max()),
    )


def check_mergeable(
    model: nn.Module, name: str = "default", *, allow_partial: bool = False, hold: bool = False
) -> dict[str, str]:
    """Return the parts that merging would leave, with the reason; raise unless that is allowed."""
    left = unmergeable(model, name, hold=hold)
    if left and not allow_partial:
        place, reason = next(iter(left.items()))
        offsets = unmergeable(model, name, hold=True) != left
        raise UnsupportedError(
            f"{place} cannot be merged: {reason}",
            allowed="LoRA, DoRA and trained parameters of the model itself",
            next_step="save it as an adapter, or merge the rest alone (allow_partial=True)"
            + (", or let the model hold its offsets, for ssmith alone (hold=True)" * offsets),
        )
    return left


def unmergeable(model: nn.Module, name: str, *, hold: bool) -> dict[str, str]:
    """Return why parts of an adapter cannot be merged, by their places."""
    check_name(model, name)
    tied, left = _tied(model), {}
    for owner, module, slot in slots(model):
        for key, part in slot.of(name):
            reason = part.cannot_merge
            if isinstance(part, LinearPart):
                reason = reason or tied.get(id(module._parameters.get("weight")), "")
            if reason and not (hold and part.held()):
                left[f"{owner}.{key}".lstrip(".")] = reason
    return left


def _tied(model: nn.Module) -> dict[int, str]:
    """Return why a change of a shared weight cannot be merged, by the weight's identity."""
    places: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        places.setdefault(id(parameter), []).append(name)
    return {
        key: f"its weight is shared by {', '.join(names)}, and the adapter acts in one place"
        for key, names in places.items()
        if len(names) > 1
    }


def _hold_slot(module: Any, slot: Slot, name: str) -> list[str]:
    """Let a module hold what it can of an adapter's parts; return the names of its buffers."""
    done = []
    for key, part in list(slot.of(name)):
        for buffer, value in part.held().items():
            before = getattr(module, buffer, None)
            module.register_buffer(buffer, value if before is None else before.to(value) + value)
            done.append(buffer)
        if part.held():
            slot.drop(name, key)
    return done


def _merge_parts(module: Any, parts: list[tuple[str, Part]]) -> list[tuple[str, str]]:
    """Write the parts of one module; return their keys and the parameters written."""
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
    with evaluating(model):
        return main_output(model(**inputs)).double()
