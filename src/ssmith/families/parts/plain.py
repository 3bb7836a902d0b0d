"""Layers that do what their weights say, and no more."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.nn.modules import module as modules


def is_plain(layer: Any, kind: type[nn.Module]) -> bool:
    """Return whether a layer's weights may be read instead of calling it.

    It must be just of that class (an adapter or a quantised layer is of another), no hook may wait
    for it or for every module, and its forward must be its own.
    """
    if type(layer) is not kind:
        return False
    inside = layer.__dict__
    if inside["_forward_hooks"] or inside["_forward_pre_hooks"] or "forward" in inside:
        return False
    return not (modules._global_forward_hooks or modules._global_forward_pre_hooks)
