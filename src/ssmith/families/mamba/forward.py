"""The forward of Mamba's and Falcon-Mamba's mixer on our scans."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ssmith.families.mamba.decoding import whole_step
from ssmith.families.parts.cache import Carried, conv_state, read, write
from ssmith.families.parts.convolving import at_least_float32, convolve
from ssmith.families.parts.hooks import (
    Hooks,
    hooks_of,
    read_out,
    shared_offset,
    shared_output,
    with_states,
)
from ssmith.families.parts.padding import Padding
from ssmith.families.parts.plain import is_plain
from ssmith.families.parts.start import start
from ssmith.ops.mixer_step.native import mixer_step_native_
from ssmith.ops.reuse import linear
from ssmith.ops.selective_scan import ScanInputs, selective_scan


def mamba_forward(
    self: Any,
    hidden_states: Tensor,
    cache_params: Any = None,
    attention_mask: Tensor | None = None,
) -> Tensor:
    """Run one mixer: same weights and result as transformers' own forward, one path for all uses.

    Prefill, continuation from a cache by any number of steps, and decoding share one formula;
    single steps take one operation for all of it where `whole_step` finds that they can. The state
    is carried in float32; padding on any side leaves no trace. What an adapter changes is asked of
    `hooks_of`; so are tensors ``state_offset``, ``initial_state``, each (e, n), and
    ``output_offset`` (e,) set on the mixer by name.

    Differs: transformers drops the cached state when more than one step follows it, and stores
        padding in it; here neither happens.
    """
    padding = Padding.of(attention_mask, hidden_states.shape[1])
    hooks = hooks_of(self)
    carried = read(cache_params, self.layer_idx)
    step = whole_step(self, hooks, hidden_states, carried) if padding is None else None
    if step is not None:
        return mixer_step_native_(step)[:, None]
    hidden = hidden_states if padding is None else padding.sort(hidden_states)
    if carried.recurrent is None:
        carried = _start(self, hooks, hidden.shape[0])
    raw, z = self.in_proj(hidden).chunk(2, dim=-1)
    x = convolve(self, raw, conv_state(carried))
    y, h = _scan(self, hooks, (x, z), carried, None if padding is None else padding.valid)
    # States lie next to each other in a cache, for the single steps that follow.
    last = (raw, carried, padding), h.contiguous()
    write(cache_params, self.layer_idx, self.conv1d.kernel_size[0], *last)
    out: Tensor = self.out_proj(y.to(hidden_states.dtype))
    return out if padding is None else padding.restore(out)


def mixed(mixer: Any, x: Tensor, z: Tensor, selected: Tensor | None = None) -> Tensor:
    """Run the rest of a mixer on what ``in_proj`` and ``conv1d`` made of texts from their start.

    ``selected`` is what ``x_proj`` makes of ``x``, where that is at hand. The mixer has no prefix.
    """
    hooks = hooks_of(mixer)
    carried = _start(mixer, hooks, x.shape[0])
    y, _ = _scan(mixer, hooks, (x, z), carried, None, selected)
    y, out_proj = y.to(z.dtype), mixer.out_proj
    if is_plain(out_proj, nn.Linear):
        return linear(y, out_proj.weight, out_proj.bias)
    called: Tensor = out_proj(y)
    return called


def _start(mixer: Any, hooks: Hooks, batch: int) -> Carried:
    def run(hidden: Tensor, before: Carried) -> tuple[Tensor, Tensor]:
        raw, z = mixer.in_proj(hidden).chunk(2, dim=-1)
        return raw, _scan(mixer, hooks, (convolve(mixer, raw, None), z), before, None)[1]

    return start(mixer, hooks, batch, run, axes=2)


def _scan(  # noqa: PLR0917 - inputs and state travel together
    mixer: Any,
    hooks: Hooks,
    inputs: tuple[Tensor, Tensor],
    carried: Carried,
    valid: Tensor | None,
    selected: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    x, z = inputs
    rank, B, C = selection(mixer, mixer.x_proj(x) if selected is None else selected)
    dt, dt_weight, dt_bias = steps_of(mixer, rank)
    A, own_C = -at_least_float32(hooks.tensor(mixer, "A_log")).exp(), C
    if hooks.extra is not None:
        A = torch.cat([A, -at_least_float32(hooks.extra.A_log).exp()], dim=1)
        rows = functional.linear(x, torch.cat([hooks.extra.B, hooks.extra.C]).to(x.dtype))
        more_B, more_C = rows.chunk(2, dim=-1)
        B, C = torch.cat([B, more_B], dim=-1), torch.cat([C, more_C], dim=-1)
    y, h = selective_scan(
        ScanInputs(
            x=x, z=z, dt=dt, A=A, B=B, C=C, D=hooks.tensor(mixer, "D"), dt_bias=dt_bias,
            dt_weight=dt_weight, dt_softplus=True, h0=with_states(carried.recurrent, A.shape[1]),
            h_offset=with_states(shared_offset(hooks, axes=2), A.shape[1]),
            y_offset=shared_output(hooks), valid=valid,
        )
    )  # fmt: skip
    return read_out(y, own_C, z, hooks), h


def selection(mixer: Any, selected: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return what ``x_proj`` selects for each step: the input of ``dt_proj``, B and C."""
    n = mixer.A_log.shape[1]
    parts = selected.split([selected.shape[-1] - 2 * n, n, n], dim=-1)
    norms = [getattr(mixer, name, None) for name in ("dt_layernorm", "b_layernorm", "c_layernorm")]
    rank, B, C = (
        part if norm is None else norm(part) for part, norm in zip(parts, norms, strict=True)
    )
    return rank, B, C


def steps_of(mixer: Any, rank: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Return ``dt``, ``dt_weight`` and ``dt_bias`` of the scan's inputs."""
    if type(mixer.dt_proj) is nn.Linear:
        return rank, mixer.dt_proj.weight, mixer.dt_proj.bias
    # An adapter or a quantised layer stands here: it is called, so that it takes part.
    return mixer.dt_proj(rank), None, None
