"""The forward of Zamba's mixer on our scans: Mamba's, with heads that select on their own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ssmith.core.errors import UnsupportedError
from ssmith.families.parts.cache import Carried, conv_state, read, write
from ssmith.families.parts.convolving import at_least_float32, convolve
from ssmith.families.parts.hooks import (
    Hooks,
    expanded,
    hooks_of,
    read_out,
    shared_offset,
    shared_output,
)
from ssmith.families.parts.padding import Padding
from ssmith.ops.selective_scan import ScanInputs, selective_scan

_BY_HEAD = ("x_proj_weight", "dt_proj_weight", "dt_proj_bias", "A_log", "D")


def zamba_forward(
    self: Any,
    hidden_states: Tensor,
    cache_params: Any = None,
    attention_mask: Tensor | None = None,
) -> Tensor:
    """Run one mixer: same weights and result as transformers' own forward, one path for all uses.

    As `mamba_forward`, head by head; ``state_offset`` and ``initial_state`` are (h, p, n) here.

    Differs: transformers drops the cached state when more than one step follows it, and stores
        padding in it; here neither happens.
    """
    padding = Padding.of(attention_mask, hidden_states.shape[1])
    hooks = _hooks(self)
    carried = read(cache_params, self.layer_idx)
    hidden = hidden_states if padding is None else padding.sort(hidden_states)
    if carried.recurrent is None and hooks.initial_state is not None:
        carried = Carried(recurrent=expanded(hooks.initial_state, hidden.shape[0], axes=3))
    # The projection holds input and gate of one channel side by side.
    raw, z = (part.contiguous() for part in self.in_proj(hidden).unflatten(-1, (-1, 2)).unbind(-1))
    x = convolve(self, raw, conv_state(carried))
    valid = None if padding is None else padding.valid
    heads = zip(x.chunk(self.n_mamba_heads, -1), z.chunk(self.n_mamba_heads, -1), strict=True)
    done = [
        _head(self, _of_head(self, hooks, head), head, pair, (carried.recurrent, valid))
        for head, pair in enumerate(heads)
    ]
    y, h = torch.cat([y for y, _ in done], dim=-1), torch.stack([h for _, h in done], dim=1)
    write(cache_params, self.layer_idx, self.conv1d.kernel_size[0], (raw, carried, padding), h)
    out: Tensor = self.out_proj(y.to(hidden_states.dtype))
    return out if padding is None else padding.restore(out)


def _head(
    mixer: Any, hooks: Hooks, head: int, pair: tuple[Tensor, Tensor],
    given: tuple[Tensor | None, Tensor | None],
) -> tuple[Float[Tensor, "b l p"], Float[Tensor, "b p n"]]:  # fmt: skip
    """Run one head on its part of the input and of the gate, from its state, around padding."""
    (x, z), (h0, valid) = pair, given
    n = mixer.A_log.shape[-1]
    x_proj, dt_proj, dt_bias, A_log, D = (hooks.tensor(mixer, name)[head] for name in _BY_HEAD)
    selected = x @ x_proj.to(x.dtype).mT
    rank, B, C = selected.split([selected.shape[-1] - 2 * n, n, n], dim=-1)
    y, h = selective_scan(
        ScanInputs(
            x=x, z=z, dt=rank @ dt_proj.to(x.dtype).mT, B=B, C=C,
            A=-at_least_float32(A_log).exp(), D=D, dt_bias=dt_bias, dt_softplus=True,
            h0=None if h0 is None else h0[:, head], h_offset=shared_offset(hooks, axes=2),
            y_offset=shared_output(hooks), valid=valid,
        )
    )  # fmt: skip
    return read_out(y, C, z, hooks), h


def _hooks(mixer: Any) -> Hooks:
    hooks = hooks_of(mixer)
    if hooks.prefix is not None or hooks.extra is not None:
        raise UnsupportedError(
            "an adapter adds states or virtual inputs to a ZambaMambaMixer",
            allowed="offsets, initial states and replaced tensors",
            next_step="choose one of these",
        )
    return hooks


def _of_head(mixer: Any, hooks: Hooks, head: int) -> Hooks:
    """Return what changes one head: its own part of each offset."""
    state, output = hooks.state_offset, hooks.output_offset
    return replace(
        hooks,
        state_offset=None if state is None else state.select(-3, head),
        output_offset=None if output is None
        else output.chunk(mixer.n_mamba_heads, dim=-1)[head],
    )  # fmt: skip
