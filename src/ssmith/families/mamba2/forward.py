"""The forward of Mamba-2's mixer, and of all that share it, on our scans."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ssmith.families.parts.cache import Carried, conv_state, read, write
from ssmith.families.parts.convolving import at_least_float32, convolve
from ssmith.families.parts.hooks import Hooks, check_rows, hooks_of, shared_offset
from ssmith.families.parts.padding import Padding
from ssmith.families.parts.start import start
from ssmith.ops.ssd import SSDInputs, ssd


def mamba2_forward(
    self: Any,
    hidden_states: Tensor,
    cache_params: Any = None,
    attention_mask: Tensor | None = None,
) -> Tensor:
    """Run one mixer: same weights and result as transformers' own forward, one path for all uses.

    As `mamba_forward`; ``state_offset`` and ``initial_state`` are (h, p, n) here, and offsets come
    before the gated norm. The mixers of
    Bamba, Granite-4 and Nemotron-H hybrids and of Zamba-2 are Mamba-2's; Falcon-H1's scales its
    projection, and may gate without a norm.

    Differs: transformers clamps Δ to the layer's limits in prefill but not in decoding; here it
        is clamped in both. Padding on any side leaves no trace in the cache.
    """
    padding = Padding.of(attention_mask, hidden_states.shape[1])
    hooks = hooks_of(self)
    carried = read(cache_params, self.layer_idx)
    hidden = hidden_states if padding is None else padding.sort(hidden_states)
    if carried.recurrent is None:
        carried = _start(self, hooks, hidden.shape[0])
    gate, raw, dt = split(self, hidden)
    y, h = _scan(self, hooks, (raw, dt), carried, None if padding is None else padding.valid)
    write(cache_params, self.layer_idx, self.conv1d.kernel_size[0], (raw, carried, padding), h)
    out: Tensor = self.out_proj(gated(self, y, gate).to(hidden_states.dtype))
    return out if padding is None else padding.restore(out)


def split(mixer: Any, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return gate, inputs of the convolution, and logits of Δ."""
    sizes = [mixer.intermediate_size, mixer.conv_dim, mixer.num_heads]
    gate, raw, dt = projected(mixer, hidden).split(sizes, dim=-1)
    return gate, raw, dt


def _start(mixer: Any, hooks: Hooks, batch: int) -> Carried:
    def run(hidden: Tensor, before: Carried) -> tuple[Tensor, Tensor]:
        _, raw, dt = split(mixer, hidden)
        return raw, _scan(mixer, hooks, (raw, dt), before, None)[1]

    return start(mixer, hooks, batch, run, axes=3)


def _scan(
    mixer: Any, hooks: Hooks, inputs: tuple[Tensor, Tensor], carried: Carried, valid: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return the outputs before the gated norm, (b, l, e), and the last state."""
    scan = scan_inputs(mixer, hooks, inputs, carried, valid)
    y, h = ssd(scan)
    return with_offsets(y, scan.C, hooks), h


def scan_inputs(
    mixer: Any, hooks: Hooks, inputs: tuple[Tensor, Tensor], carried: Carried, valid: Tensor | None
) -> SSDInputs:
    """Return what the scan takes, from the convolution's inputs and Δ's logits."""
    raw, dt = inputs
    groups = (mixer.n_groups, mixer.ssm_state_size)
    rows = mixer.n_groups * mixer.ssm_state_size
    x, B, C = convolve(mixer, raw, conv_state(carried)).split(
        [mixer.intermediate_size, rows, rows], dim=-1
    )
    return SSDInputs(
        x=x.unflatten(-1, (mixer.num_heads, mixer.head_dim)), dt=dt,
        A=-at_least_float32(hooks.tensor(mixer, "A_log")).exp(),
        B=mapped(mixer, "state_map_B", B.unflatten(-1, groups)),
        C=mapped(mixer, "state_map_C", C.unflatten(-1, groups)),
        D=hooks.tensor(mixer, "D"), dt_bias=hooks.tensor(mixer, "dt_bias"),
        dt_softplus=True, dt_limit=tuple(mixer.time_step_limit), h0=carried.recurrent,
        h_offset=shared_offset(hooks, axes=3), valid=valid,
    )  # fmt: skip


def mapped(mixer: Any, name: str, rows: Tensor) -> Tensor:
    """Return rows of B or C in the basis of the states, where maps of that name project them."""
    found = mixer._buffers.get(name)
    if found is None:
        return rows
    maps = found.unflatten(0, (rows.shape[2], -1))
    return torch.einsum("blgn,grn->blgr", rows, maps.to(rows.dtype))


def with_offsets(y: Tensor, C: Tensor, hooks: Hooks) -> Tensor:
    """Add output offsets, and offsets by row, and flatten the heads."""
    by_row = hooks.state_offset
    if by_row is not None and by_row.ndim == 4:
        check_rows(by_row, y.shape[0])
        grouped = by_row.unflatten(1, (C.shape[2], -1))
        read = torch.einsum("blgn,bgqpn->blgqp", C.to(grouped.dtype), grouped)
        y = y + read.flatten(2, 3).to(y.dtype)
    flat = y.flatten(2)
    offset = hooks.output_offset
    if offset is None:
        return flat
    if offset.ndim == 2:
        check_rows(offset, flat.shape[0])
        offset = offset[:, None]
    return flat + offset.to(flat.dtype)


def projected(mixer: Any, hidden: Tensor) -> Tensor:
    """Return gate, convolution input and Δ's logits of each step, as one tensor."""
    scale = getattr(mixer, "ssm_in_multiplier", None)
    if scale is None:
        plain: Tensor = mixer.in_proj(hidden)
        return plain
    scaled: Tensor = mixer.in_proj(hidden * scale) * mixer.mup_vector
    return scaled


def gated(mixer: Any, y: Tensor, gate: Tensor) -> Tensor:
    """Return what ``out_proj`` is given, from the scan's outputs (b, l, e) and the gate."""
    if getattr(mixer, "mamba_rms_norm", True):
        normed: Tensor = mixer.norm(y, gate)
        return normed
    return y * functional.silu(gate)
