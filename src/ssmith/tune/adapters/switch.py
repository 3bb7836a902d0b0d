"""Switching adapters at run time: which are active, none, or one for each row of a batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import nn

from ssmith.core.errors import InputError, UnsupportedError
from ssmith.tune.adapters.part import TensorPart
from ssmith.tune.adapters.registry import adapters_of, check_name
from ssmith.tune.adapters.slot import slots


def active(model: nn.Module) -> tuple[str, ...]:
    """Return the names of the active adapters, in the order they were attached."""
    on = {name for _, _, slot in slots(model) for name in slot.active}
    return tuple(name for name in adapters_of(model) if name in on)


def use_(model: nn.Module, names: str | Sequence[str]) -> None:
    """Make these adapters active and trainable, and no others."""
    wanted = (names,) if isinstance(names, str) else tuple(names)
    for name in wanted:
        check_name(model, name)
    _check_no_clash(model, wanted)
    for _, _, slot in slots(model):
        slot.set(tuple(name for name in wanted if name in slot.adapters()))
        for name in slot.adapters():
            for _, part in slot.of(name):
                part.requires_grad_(name in wanted)


@contextmanager
def disabled(model: nn.Module) -> Iterator[None]:
    """Run the base model inside the block, as if no adapter were attached."""
    with _restored(model):
        for _, _, slot in slots(model):
            slot.set(())
        yield


@contextmanager
def rows(model: nn.Module, names: Sequence[str | None]) -> Iterator[None]:
    """Give each row of a batch its own adapter inside the block.

    Args:
        model: with adapters attached.
        names: per row of the batch, the name of an adapter; None for the base model.

    Raises:
        InputError: if a name is unknown.
        UnsupportedError: if an adapter has a part that all rows must share.
    """
    used = [name for name in dict.fromkeys(names) if name is not None]
    for name in used:
        check_name(model, name)
    for owner, _, slot in slots(model):
        for name in used:
            shared = [key for key, part in slot.of(name) if not part.by_row]
            if shared:
                raise UnsupportedError(
                    f"adapter {name!r} has {shared[0]} at {owner or 'the model'}, which all rows "
                    "of a batch share",
                    allowed="adapters of state-offset and initial-state for each row",
                    next_step="run one batch per adapter (use_)",
                )
    with _restored(model):
        for _, _, slot in slots(model):
            slot.set((), tuple(names) if set(used) & set(slot.adapters()) else None)
        yield


@contextmanager
def _restored(model: nn.Module) -> Iterator[None]:
    before = [(slot, slot.active, slot.rows) for _, _, slot in slots(model)]
    try:
        yield
    finally:
        for slot, on, by_row in before:
            slot.set(on, by_row)


def _check_no_clash(model: nn.Module, wanted: tuple[str, ...]) -> None:
    for owner, _, slot in slots(model):
        seen: dict[str, str] = {}
        for name in wanted:
            for _, part in slot.of(name):
                if not isinstance(part, TensorPart):
                    continue
                other = seen.setdefault(part.parameter, name)
                if other != name:
                    raise InputError(
                        f"adapters {other!r} and {name!r} both train {owner}.{part.parameter}",
                        next_step="use one of them at a time",
                    )
