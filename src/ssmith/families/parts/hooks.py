"""What an adapter may change inside a selective mixer, asked for by the engine at every forward."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from ssmith.core.errors import InputError

SLOT = "ssmith_adapters"
"""Name of the child module in which a module carries its adapters."""


@dataclass(frozen=True, kw_only=True)
class ExtraStates:
    """States an adapter adds to a Mamba mixer: their decay, rows in, and rows out."""

    A_log: Float[Tensor, "e k"]
    B: Float[Tensor, "k e"]
    C: Float[Tensor, "k e"]


@dataclass(frozen=True, kw_only=True)
class Hooks:
    """Everything an adapter changes in one mixer; what is None is left as it is.

    Offsets and initial states may lead with an axis of rows: one for each sequence of the batch.

    Args:
        state_offset: added to the state in the read-out only: (e, n), Mamba-2 (h, p, n).
        output_offset: added to the output before the gate: (e,).
        initial_state: the state before the first step, shaped as ``state_offset``.
        prefix: virtual inputs (v, m) that run before the first step.
        extra: further states; Mamba only.
        tensors: in place of the mixer's own parameters, by name.
    """

    state_offset: Float[Tensor, "..."] | None = None
    output_offset: Float[Tensor, "..."] | None = None
    initial_state: Float[Tensor, "..."] | None = None
    prefix: Float[Tensor, "v m"] | None = None
    extra: ExtraStates | None = None
    tensors: Mapping[str, Tensor] = field(default_factory=dict)

    def tensor(self, mixer: Any, name: str) -> Tensor:
        """Return a parameter of the mixer, or what stands in its place."""
        found: Tensor = self.tensors[name] if name in self.tensors else getattr(mixer, name)
        return found


NOTHING = Hooks()
OFFSET_NAMES = ("state_offset", "output_offset")
"""Buffers of a mixer that stock code does not know."""
PER_STATE = ("state_offset", "initial_state")
"""Tensors set on a mixer by name that have one number for each state."""
MAPS = ("state_map_B", "state_map_C")
"""Buffers of a Mamba-2 mixer whose states were projected: what makes its B and C of those that
``in_proj`` gives, (g·r, n)."""
ENGINE_ONLY = frozenset((*OFFSET_NAMES, *PER_STATE, *MAPS))
"""Buffers of a mixer that the engine runs, and stock code leaves out without a word."""
_PLAIN = (*OFFSET_NAMES, "initial_state")


def hooks_of(mixer: Any) -> Hooks:
    """Return what changes a mixer: its adapters, and tensors set on it by name."""
    hooks = NOTHING
    plain: dict[str, Any] = {
        name: found for name in _PLAIN if (found := _own(mixer, name)) is not None
    }
    if plain:
        hooks = replace(hooks, **plain)
    slot = mixer._modules.get(SLOT)
    if slot is None:
        return hooks
    adapted: Hooks = slot.hooks(mixer, hooks)
    return adapted


def read_out(
    y: Float[Tensor, "b l e"], C: Float[Tensor, "b l n"], z: Float[Tensor, "b l e"], hooks: Hooks
) -> Float[Tensor, "b l e"]:
    """Return ``y + SiLU(z)·(y′ + C·h′)``: what the scan has not added itself, offsets by row."""
    own = hooks.output_offset
    offset = own[:, None] if own is not None and own.ndim == 2 else None
    by_row = hooks.state_offset
    if by_row is not None and by_row.ndim == 3:
        C = C[..., : by_row.shape[-1]]
        read = C.to(by_row.dtype) @ by_row.mT
        offset = read if offset is None else offset + read
    if offset is None:
        return y
    check_rows(offset, y.shape[0])
    return y + (offset.to(y.dtype) * functional.silu(z)).to(y.dtype)


def check_rows(given: Tensor, batch: int) -> None:
    """Raise unless there is one value for each row of a batch."""
    if given.shape[0] != batch:
        raise InputError(
            f"adapters were named for {given.shape[0]} rows",
            allowed=f"{batch} names, one for each row of the batch",
            next_step="beams and several sequences per prompt are rows as well",
        )


def shared_offset(hooks: Hooks, axes: int) -> Tensor | None:
    """Return the state's offset if all rows share it: it has then ``axes`` axes."""
    found = hooks.state_offset
    return found if found is not None and found.ndim == axes else None


def shared_output(hooks: Hooks) -> Tensor | None:
    """Return the output's offset if all rows share it."""
    found = hooks.output_offset
    return found if found is not None and found.ndim == 1 else None


def with_states(offset: Tensor | None, states: int) -> Tensor | None:
    """Return an offset or state filled up with zeros to a number of states."""
    if offset is None or offset.shape[-1] == states:
        return offset
    return functional.pad(offset, (0, states - offset.shape[-1]))


def expanded(start: Tensor, batch: int, axes: int) -> Tensor:
    """Return a state for every sequence of a batch, from one for all or one for each."""
    if start.ndim == axes:
        return start.expand(batch, *start.shape)
    check_rows(start, batch)
    return start


def _own(mixer: Any, name: str) -> Tensor | None:
    for place in (mixer._parameters, mixer._buffers, mixer.__dict__):
        found = place.get(name)
        if isinstance(found, torch.Tensor):
            return found
    return None
