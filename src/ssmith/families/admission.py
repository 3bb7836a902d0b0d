"""Whether a layer is what its table says: tried on a small random input before anything is cut."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ssmith.core.unit import Coupling
from ssmith.families.coupling import mask_, shrink_
from ssmith.families.layout import registered
from ssmith.families.mamba.selective import SelectiveLayer

_BATCH, _LENGTH = 2, 9
_TOLERANCE = 1e-4
"""Of the largest output: far above rounding in float32, far below any part left out."""


@dataclass(frozen=True, kw_only=True)
class Admission:
    """What trying a layer showed.

    Args:
        units: that can be cut.
        reason: why the others cannot, in words; empty where all can.
    """

    units: tuple[str, ...]
    reason: str = ""

    def said(self) -> str:
        """Return it as a note for people."""
        can = f"can be cut: {', '.join(self.units)}" if self.units else "cannot be cut"
        return f"{can}; {self.reason}" if self.reason else can


_TRIED: dict[Any, Admission] = {}


def admit(module: nn.Module, layer: SelectiveLayer, couplings: tuple[Coupling, ...]) -> Admission:
    """Try a layer of a class that is not one of transformers'.

    Its output must be what its parts compute, and without a state it must compute what it does
    with a silent one. The outcome holds for all layers of one class, layout and shapes.

    Args:
        module: left as it is.
        layer: the same, as it is seen.
        couplings: its tables.

    Returns:
        What can be cut.
    """
    shapes = tuple((name, tuple(value.shape)) for name, value in module.named_parameters())
    layout = registered(module)
    key = (type(module), None if layout is None else repr(layout), shapes)
    if any(value.is_meta for value in module.parameters()):
        return Admission(units=(), reason="its weights are not loaded")
    if key not in _TRIED:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            _TRIED[key] = _tried(layer, couplings)
    return _TRIED[key]


def _tried(layer: SelectiveLayer, couplings: tuple[Coupling, ...]) -> Admission:
    units = tuple(dict.fromkeys(item.unit for item in couplings))
    try:
        twin = _twin(layer)
        hidden = torch.randn(_BATCH, _LENGTH, twin.mixer.in_proj.weight.shape[1])
        hidden = hidden.to(twin.mixer.in_proj.weight)
        own = _called(twin, hidden)
    except Exception as error:  # a forward of anybody's may raise anything
        return Admission(
            units=(), reason=f"it does not run on (batch, length, width): {_say(error)}"
        )
    try:
        rebuilt = twin.output(twin.branches(hidden))
    except Exception as error:
        return Admission(units=(), reason=f"its parts do not fit together: {_say(error)}")
    if not _same(own, rebuilt):
        return Admission(units=(), reason="its output is not what a Mamba mixer makes of its parts")
    fault = _fault(layer, couplings, hidden)
    if fault:
        return Admission(units=tuple(unit for unit in units if unit != "state"), reason=fault)
    return Admission(units=units)


def _fault(layer: SelectiveLayer, couplings: tuple[Coupling, ...], hidden: Tensor) -> str:
    """Return what is wrong with the layer after one state went; empty if nothing."""
    state = next(item for item in couplings if item.unit == "state")
    if state.count == 1:
        return "it has a single state"
    keep = torch.arange(state.count) > 0
    try:
        shrunk = _twin(layer)
        shrink_(shrunk.module, state, keep)
        own = _called(shrunk, hidden)
        if "mask" in state.modes:
            masked = _twin(layer)
            mask_(masked.module, state, keep)
            expected = _called(masked, hidden)
        else:
            expected = shrunk.output(shrunk.branches(hidden))
    except Exception as error:
        return (
            f"state: with one state less its forward fails ({_say(error)}); name the attributes "
            'that count states: sm.register(…, sizes={"state": [...]})'
        )
    return "" if _same(own, expected) else "state: shrunk and masked it computes different outputs"


def _twin(layer: SelectiveLayer) -> SelectiveLayer:
    """Return a copy in evaluation mode, in at least float32, with every weight moved a little."""
    mixer = copy.deepcopy(layer.mixer)
    twin = SelectiveLayer(layer.name, mixer)
    twin.module.eval()
    draw = torch.Generator().manual_seed(0)
    for value in twin.module.parameters():
        if value.dtype in (torch.float16, torch.bfloat16):
            value.data = value.data.float()
        # So that what starts at zero, or all alike, shows as well.
        noise = torch.randn(value.shape, generator=draw).to(value)
        value.data = value.data + 0.05 * noise
    return twin


def _called(layer: SelectiveLayer, hidden: Tensor) -> Tensor:
    out = layer.module(hidden)
    first: Tensor = out[0] if isinstance(out, tuple) else out
    return first


def _same(own: Any, expected: Tensor) -> bool:
    if not isinstance(own, Tensor) or own.shape != expected.shape:
        return False
    largest = float(expected.abs().max())
    return float((own - expected).abs().max()) <= _TOLERANCE * max(largest, 1e-6)


def _say(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0][:120] if str(error) else ''}"
