"""Which kinds of layers a model is made of: state space, attention, feed-forward."""

from __future__ import annotations

from torch import nn

from ssmith.families.family import Kind
from ssmith.families.parts.stock import kind_of
from ssmith.families.registry import MIXERS

_ATTENTION = ("Attention", "AttentionLayer", "DeltaNet")
_MLP = ("MLP", "Mlp", "FeedForward", "MoE", "MoeBlock", "MOE")


def layer_kinds(model: nn.Module) -> dict[str, Kind]:
    """Return the layers of a transformers model that are a kind of their own, in its order.

    A layer inside another one, such as the attention of a shared block, stands for itself.
    """
    found: dict[str, Kind] = {}
    for name, part in model.named_modules():
        kind = _kind(part)
        inside = any(name.startswith(f"{outer}.") for outer in found)
        if kind is not None and not inside:
            found[name] = kind
    return found


def _kind(part: nn.Module) -> Kind | None:
    name = kind_of(part)
    if name in MIXERS:
        return "ssm"
    if name.endswith(_ATTENTION):
        return "attention"
    return "mlp" if name.endswith(_MLP) else None
