"""The forward of Mamba-2's mixer on our scans."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ssmith.families.hf.cache import conv_state, read, write
from ssmith.families.hf.mamba import at_least_float32, convolve
from ssmith.families.hf.padding import Padding
from ssmith.ops.ssd import SSDInputs, ssd


def mamba2_forward(
    self: Any,
    hidden_states: Tensor,
    cache_params: Any = None,
    attention_mask: Tensor | None = None,
) -> Tensor:
    """Run one mixer: same weights and result as transformers' own forward, one path for all uses.

    As `mamba_forward`; ``state_offset`` and ``initial_state`` are (h, p, n) here.

    Args:
        self: a ``Mamba2Mixer``.
        hidden_states: (b, l, m).
        cache_params: a transformers cache to continue from and to update, or None.
        attention_mask: (b, l), 0 where a step is padding; or None.

    Returns:
        (b, l, m) in the dtype of ``hidden_states``.

    Differs: transformers clamps Δ to the layer's limits in prefill but not in decoding; here it
        is clamped in both. Padding on any side leaves no trace in the cache.
    """
    padding = Padding.of(attention_mask, hidden_states.shape[1])
    carried = read(cache_params, self.layer_idx)
    hidden = hidden_states if padding is None else padding.sort(hidden_states)
    gate, raw, dt = self.in_proj(hidden).split(
        [self.intermediate_size, self.conv_dim, self.num_heads], dim=-1
    )
    groups = (self.n_groups, self.ssm_state_size)
    rows = self.n_groups * self.ssm_state_size
    x, B, C = convolve(self, raw, conv_state(carried)).split(
        [self.intermediate_size, rows, rows], dim=-1
    )
    h0 = carried.recurrent
    if h0 is None and getattr(self, "initial_state", None) is not None:
        h0 = self.initial_state.expand(x.shape[0], -1, -1, -1)
    y, h = ssd(
        SSDInputs(
            x=x.unflatten(-1, (self.num_heads, self.head_dim)), dt=dt,
            A=-at_least_float32(self.A_log).exp(), B=B.unflatten(-1, groups),
            C=C.unflatten(-1, groups), D=self.D, dt_bias=self.dt_bias, dt_softplus=True,
            dt_limit=tuple(self.time_step_limit), h0=h0,
            h_offset=getattr(self, "state_offset", None),
            valid=None if padding is None else padding.valid,
        )
    )  # fmt: skip
    write(cache_params, self.layer_idx, self.conv1d.kernel_size[0], (raw, carried, padding), h)
    out: Tensor = self.out_proj(self.norm(y.flatten(2), gate).to(hidden_states.dtype))
    return out if padding is None else padding.restore(out)
