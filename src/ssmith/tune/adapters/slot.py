"""Slots: the child module in which a module carries the parts of its adapters."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from operator import is_
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ssmith.core.errors import InputError
from ssmith.families.parts.hooks import NOTHING, SLOT, ExtraStates, Hooks
from ssmith.tune.adapters.part import LinearPart, LTIPart, MixerPart, Part, TensorPart

_SUMS = ("state_offset", "output_offset", "initial_state")


class Slot(nn.Module):
    """All parts one module carries: adapter name → key → part; and which of them are active."""

    def __init__(self) -> None:
        super().__init__()
        self.active: tuple[str, ...] = ()
        self.rows: tuple[str | None, ...] | None = None
        self._constant: tuple[Hooks, MixerPart, tuple[Any, ...]] | None = None

    def set(self, active: tuple[str, ...], rows: tuple[str | None, ...] | None = None) -> None:
        """Choose which adapters act, for all rows of a batch or one for each."""
        self.active, self.rows, self._constant = active, rows, None

    def put(self, adapter: str, key: str, part: Part) -> None:
        """Add a part of an adapter."""
        if adapter not in self._modules:
            self.add_module(adapter, nn.ModuleDict().train(self.training))
        parts: Any = self._modules[adapter]
        if key in parts:
            raise InputError(
                f"two methods of adapter {adapter!r} act on the same tensor ({key})",
                next_step="name each method once",
            )
        parts[key] = part
        part.train(self.training)

    def drop(self, adapter: str, key: str) -> None:
        """Remove one part of an adapter."""
        parts: Any = self._modules[adapter]
        del parts[key]
        self.set(self.active, self.rows)

    def take(self, adapter: str) -> None:
        """Remove an adapter's parts, if there are any."""
        self._modules.pop(adapter, None)
        self.set(tuple(name for name in self.active if name != adapter))

    def adapters(self) -> tuple[str, ...]:
        """Return the names of the adapters that have a part here."""
        return tuple(self._modules)

    def of(self, adapter: str) -> Iterator[tuple[str, Part]]:
        """Yield key and part of one adapter; nothing if it has none here."""
        parts: Any = self._modules.get(adapter)
        if parts is not None:
            yield from parts.items()

    def now(self) -> Iterator[Part]:
        """Yield the parts of the active adapters."""
        for adapter in self.active:
            for _, part in self.of(adapter):
                yield part

    def tuned(self, parameter: str, base: Tensor) -> Tensor:
        """Return what stands in the place of a parameter: trained values, or itself."""
        for part in self.now():
            if isinstance(part, TensorPart) and part.parameter == parameter:
                return part.of(base)
        return base

    def linear(self, linear: nn.Linear, x: Tensor, y: Tensor) -> Tensor:
        """Return a linear layer's output with the active parts' doing in it."""
        for part in self.now():
            if isinstance(part, LinearPart):
                y = part.add(linear, x, y)
        return y

    def lti(self, what: Literal["offset", "start"]) -> Tensor | None:
        """Return what is added to an S5 or S4D layer's output, or the state it starts from.

        It is one for all sequences, or one for each; None if no active part has it.
        """
        if self.rows is not None:
            values = {name: self._lti_sum(what, (name,)) for name in set(self.rows)}
            return _by_row(values, self.rows)
        return self._lti_sum(what, self.active)

    def _lti_sum(self, what: str, adapters: tuple[str | None, ...]) -> Tensor | None:
        found = None
        for adapter in adapters:
            for _, part in self.of(adapter) if adapter is not None else ():
                if isinstance(part, LTIPart):
                    found = _sum(found, part.offset() if what == "offset" else part.start())
        return found

    def hooks(self, mixer: Any, hooks: Hooks) -> Hooks:
        """Return what changes a mixer: what is given, and the active parts' doing."""
        if self.rows is None:
            return self._shared(mixer, hooks)
        alone = {name: self._alone(name, mixer) for name in set(self.rows)}
        for name in _SUMS:
            values = {key: getattr(found, name) for key, found in alone.items()}
            stacked = _by_row(values, self.rows)
            if stacked is not None:
                joined: dict[str, Any] = {name: _sum(getattr(hooks, name), stacked)}
                hooks = replace(hooks, **joined)
        return hooks

    def _shared(self, mixer: Any, hooks: Hooks) -> Hooks:
        """Return the hooks all rows share; the same ones as before while nothing is exchanged."""
        if self._constant is not None and hooks is NOTHING:
            kept, source, tensors = self._constant
            if all(map(is_, source._parameters.values(), tensors)):
                return kept
        parts, given = list(self.now()), hooks
        for part in parts:
            hooks = _changed(part, mixer, hooks)
        if given is NOTHING and len(parts) == 1:
            (only,) = parts
            if isinstance(only, MixerPart) and only.constant:
                self._constant = (hooks, only, tuple(only._parameters.values()))
        return hooks

    def _alone(self, adapter: str | None, mixer: Any) -> Hooks:
        hooks = Hooks()
        for _, part in self.of(adapter) if adapter is not None else ():
            hooks = _changed(part, mixer, hooks)
        return hooks


def slot_of(module: nn.Module) -> Slot | None:
    """Return the slot of a module, or None if it carries no adapter."""
    found = module._modules.get(SLOT)
    return found if isinstance(found, Slot) else None


def give_slot(module: nn.Module) -> Slot:
    """Return a module's slot, a new one if it has none."""
    found = slot_of(module)
    if found is None:
        found = Slot()
        found.train(module.training)
        module.add_module(SLOT, found)
    return found


def slots(model: nn.Module) -> Iterator[tuple[str, nn.Module, Slot]]:
    """Yield dotted name, module and slot of every module of a model that carries adapters."""
    for name, part in model.named_modules():
        slot = slot_of(part)
        if slot is not None:
            yield name, part, slot


def _changed(part: Part, mixer: Any, hooks: Hooks) -> Hooks:
    if isinstance(part, TensorPart):
        own: Tensor = getattr(mixer, part.parameter)
        return replace(hooks, tensors={**hooks.tensors, part.parameter: part.of(own)})
    if not isinstance(part, MixerPart):
        return hooks
    return _joined(hooks, part.change())


def _joined(first: Hooks, second: Hooks) -> Hooks:
    """Return two changes of one mixer as one."""
    prefix = [item.prefix for item in (first, second) if item.prefix is not None]
    extra = [item.extra for item in (first, second) if item.extra is not None]
    return Hooks(
        **{name: _sum(getattr(first, name), getattr(second, name)) for name in _SUMS},
        prefix=torch.cat(prefix) if prefix else None,
        extra=_joined_states(extra) if extra else None,
        tensors={**first.tensors, **second.tensors},
    )


def _joined_states(extra: list[ExtraStates]) -> ExtraStates:
    return ExtraStates(
        A_log=torch.cat([states.A_log for states in extra], dim=1),
        B=torch.cat([states.B for states in extra]),
        C=torch.cat([states.C for states in extra]),
    )


def _sum(first: Tensor | None, second: Tensor | None) -> Tensor | None:
    if first is None or second is None:
        return second if first is None else first
    return first + second


def _by_row(values: dict[str | None, Tensor | None], rows: tuple[str | None, ...]) -> Tensor | None:
    """Return one value per row, zeros where a row has none; None if no row has one."""
    like = next((value for value in values.values() if value is not None), None)
    if like is None:
        return None
    given = list(values)
    table = torch.stack([torch.zeros_like(like) if v is None else v for v in values.values()])
    return table[torch.tensor([given.index(name) for name in rows], device=like.device)]
