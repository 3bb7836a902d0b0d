"""Decoding with a Mamba mixer in one operation, wherever nothing stands in its way."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ssmith.families.parts.cache import Carried
from ssmith.families.parts.hooks import Hooks
from ssmith.families.parts.plain import is_plain
from ssmith.ops.backends import chosen
from ssmith.ops.mixer_step.inputs import MixerStepInputs
from ssmith.ops.mixer_step.native import fits

MOST_SEQUENCES = 8
"""With more, products of matrices with matrices are faster than reading each weight once."""

_PARTS: dict[str, type[nn.Module]] = {
    "in_proj": nn.Linear, "conv1d": nn.Conv1d, "x_proj": nn.Linear, "dt_proj": nn.Linear,
    "out_proj": nn.Linear,
}  # fmt: skip


def whole_step(
    mixer: Any, hooks: Hooks, hidden: Tensor, carried: Carried
) -> MixerStepInputs | None:
    """Find the one operation that advances a mixer by a step, where it may be taken.

    The operation computes what the mixer's layers do without calling them. So the ordinary path is
    taken if anything is attached to one of them (a hook, an adapter, a quantised weight), if an
    adapter of the mixer changes more than offsets, under autograd, autocast or a compiler, and
    where the kernels do not run or tensors are not plain float32. Both compute the same. What its
    cache holds is advanced in place.
    """
    if hidden.shape[1] != 1 or hidden.shape[0] > MOST_SEQUENCES or torch.is_grad_enabled():
        return None
    if carried.recurrent is None or carried.conv is None or carried.virtual:
        return None
    if torch.compiler.is_compiling() or torch.is_autocast_enabled("cpu"):
        return None
    if chosen("mixer_step", hidden) != "native" or not (_only_offsets(hooks) and _bare(mixer)):
        return None
    # A module looks each of its parts up in turn, which a token pays for in every layer.
    own = {name: mixer._modules[name]._parameters for name in _PARTS}
    if any(part.get("weight") is None for part in own.values()):
        return None
    first, conv, last = own["in_proj"], own["conv1d"], own["out_proj"]
    step = MixerStepInputs(
        hidden=hidden[:, 0], in_weight=first["weight"], in_bias=first["bias"],
        conv_weight=conv["weight"][:, 0], conv_bias=conv["bias"],
        x_weight=own["x_proj"]["weight"], dt_weight=own["dt_proj"]["weight"],
        dt_bias=own["dt_proj"]["bias"], A_log=hooks.tensor(mixer, "A_log"),
        D=hooks.tensor(mixer, "D"), out_weight=last["weight"], out_bias=last["bias"],
        conv_state=carried.conv.mT, h=carried.recurrent,
        h_offset=hooks.state_offset, y_offset=hooks.output_offset,
    )  # fmt: skip
    return step if fits(step) else None


def _only_offsets(hooks: Hooks) -> bool:
    """Return whether adapters change no more than offsets that all rows share."""
    if hooks.prefix is not None or hooks.extra is not None:
        return False
    if hooks.state_offset is not None and hooks.state_offset.ndim != 2:
        return False
    return hooks.output_offset is None or hooks.output_offset.ndim == 1


def _bare(mixer: Any) -> bool:
    """Return whether a mixer's layers do what their weights say, and no more."""
    parts = mixer._modules
    if mixer.activation not in ("silu", "swish") or "dt_layernorm" in parts:
        return False
    if not all(is_plain(parts.get(name), kind) for name, kind in _PARTS.items()):
        return False
    return parts["x_proj"].bias is None
