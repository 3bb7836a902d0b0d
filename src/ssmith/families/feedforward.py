"""Feed-forward layers: where their hidden neurons live."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from torch import nn

from ssmith.core.unit import Coupling
from ssmith.families.parts.stock import is_stock, kind_of
from ssmith.families.parts.tables import at, slices_of
from ssmith.families.tabled import TableFamily

_KEYS = {
    "BambaMLP": "intermediate_size",
    "FalconH1MLP": "intermediate_size",
    "GraniteMoeHybridMLP": "shared_intermediate_size",
    "NemotronHMLP": "intermediate_size",
    "ZambaMLP": "intermediate_size",
    "Zamba2MLP": "intermediate_size",
    # Its experts read the same key.
    "JambaMLP": "",
}
_LAYOUTS = (
    (("gate_proj", "up_proj"), 1, "down_proj"),
    (("up_proj",), 1, "down_proj"),
    (("gate_up_proj",), 2, "down_proj"),
    (("input_linear",), 2, "output_linear"),
    (("w1", "w3"), 1, "w2"),
    (("w1",), 1, "w2"),
    (("fc1",), 1, "fc2"),
)
"""Layers into the neurons, how many rows of each a neuron has, and the layer out of them."""
_COUNTS = ("intermediate_size", "hidden_size", "hidden_features", "hidden_dim")


def looks_like_feedforward(module: Any) -> bool:
    """Return whether a module is made of linear layers into neurons and out of them."""
    return _layout(module) is not None


def tables(module: Any) -> tuple[Coupling, ...]:
    """Return where the neurons of a feed-forward layer live."""
    found = _layout(module)
    if found is None:
        return ()
    into, times, out = found
    neurons = at(module, out).weight.shape[1]
    rows = {"repeat": times, "step": neurons}
    sizes: dict[str, int | Fraction] = {f"{name}.out_features": times for name in into}
    slices = [item for name in into for item in slices_of(module, name, **rows)]
    # Zamba-2 shares a layer between places, each with an adapter of low rank.
    adapters = f"{into[0]}_adapter_list"
    for place, adapter in enumerate(getattr(module, adapters, ())):
        if isinstance(adapter, nn.Sequential):
            slices += slices_of(module, f"{adapters}.{place}.1", **rows)
            sizes[f"{adapters}.{place}.1.out_features"] = times
    counts = {name: 1 for name in _COUNTS if at(module, name) == neurons}
    key = _KEYS.get(kind_of(module), "") if is_stock(module) else ""
    return (
        Coupling(
            unit="neuron",
            grid=(neurons,),
            slices=(*slices, *slices_of(module, f"{out}.weight", dim=1, silent=0.0)),
            sizes=sizes | counts | {f"{out}.in_features": 1},
            config_keys={key: 1} if key else {},
            output=out,
        ),
    )


def config(module: Any) -> Mapping[str, Fraction]:
    """Return what a stock configuration says of a feed-forward layer."""
    key, found = _KEYS.get(kind_of(module), ""), _layout(module)
    if not key or found is None:
        return {}
    return {key: Fraction(at(module, found[2]).weight.shape[1])}


def _layout(module: Any) -> tuple[tuple[str, ...], int, str] | None:
    if not isinstance(module, nn.Module):
        return None
    for into, times, out in _LAYOUTS:
        layers: list[Any] = [module._modules.get(name) for name in (*into, out)]
        if not all(type(layer) is nn.Linear for layer in layers):
            continue
        *ins, last = layers
        if all(layer.out_features == times * last.in_features for layer in ins):
            return into, times, out
    return None


MLP = TableFamily(
    name="mlp",
    kind="mlp",
    classes=_KEYS,
    tables=tables,
    config=config,
    like=looks_like_feedforward,
)
