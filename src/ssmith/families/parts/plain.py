"""Layers that do what their weights say, and no more."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.nn.modules import module as modules


def is_plain(layer: Any, kind: type[nn.Module]) -> bool:
    """Return whether a layer's weights may be read instead of calling it.

    Args:
        layer: a module, or None.
        kind: what it must be; an adapter or a quantised layer is of another type.

    Returns:
        False as well where a hook waits for it or for every module, or its forward was replaced.
    """
    if type(layer) is not kind:
        return False
    inside = layer.__dict__
    if inside["_forward_hooks"] or inside["_forward_pre_hooks"] or "forward" in inside:
        return False
    return not (modules._global_forward_hooks or modules._global_forward_pre_hooks)
