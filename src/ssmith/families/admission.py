"""Whether a layer is what its table says: tried on a small random input before anything is cut."""

from __future__ import annotations

import copy
from collections.abc import Callable
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
    """What trying a layer showed: the units that can be cut, and why the others cannot."""

    units: tuple[str, ...]
    reason: str = ""

    def said(self) -> str:
        """Return it as a note for people."""
        can = f"can be cut: {', '.join(self.units)}" if self.units else "cannot be cut"
        return f"{can}; {self.reason}" if self.reason else can


_TRIED: dict[Any, Admission] = {}


def try_tables(module: nn.Module, tables: tuple[Coupling, ...]) -> Admission:
    """Try a layer: without a unit it must compute what it does with a silent one.

    The outcome holds for all layers of one class, layout, shapes and flags.
    """
    return _once(module, lambda: _by_tables(module, tables))


def try_rebuilding(
    module: nn.Module, layer: SelectiveLayer, tables: tuple[Coupling, ...]
) -> Admission:
    """Try a mixer: its output must be what its parts compute, and its tables must hold."""
    return _once(module, lambda: _by_parts(layer, tables))


def _once(module: nn.Module, look: Callable[[], Admission]) -> Admission:
    shapes = tuple((name, tuple(value.shape)) for name, value in module.named_parameters())
    flags = tuple(
        (name, value)
        for name, value in vars(module).items()
        if isinstance(value, bool | str) and name != "training"
    )
    key = (type(module), repr(registered(module)), shapes, flags)
    if any(value.is_meta for value in module.parameters()):
        return Admission(units=(), reason="its weights are not loaded")
    if key not in _TRIED:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            _TRIED[key] = look()
    return _TRIED[key]


def _by_parts(layer: SelectiveLayer, tables: tuple[Coupling, ...]) -> Admission:
    try:
        twin = SelectiveLayer.of(layer.name, _twin(layer.module))
        hidden = _input(twin.mixer.in_proj.weight)
        own = _called(twin.module, hidden)
    except Exception as error:  # a forward of anybody's may raise anything
        reason = f"it does not run on an input (batch, length, width): {_say(error)}"
        return Admission(units=(), reason=reason)
    try:
        rebuilt = twin.output(twin.branches(hidden))
    except Exception as error:
        return Admission(units=(), reason=f"its parts do not fit together: {_say(error)}")
    if not _same(own, rebuilt):
        reason = "its output is not what a Mamba mixer makes of its parts"
        return Admission(units=(), reason=reason)
    return _by_tables(layer.module, tables, hidden)


def _by_tables(
    module: nn.Module, tables: tuple[Coupling, ...], hidden: Tensor | None = None
) -> Admission:
    units, reasons = [], []
    for table in tables:
        fault = ""
        if "shrink" in table.modes:
            x = hidden
            if x is None:
                x = _input(_twin(module).get_parameter(table.slices[0].parameter))
            fault = _fault(module, table, x)
        reasons += [f"{table.unit}: {fault}"] if fault else []
        units += [] if fault else [table.unit]
    return Admission(units=tuple(dict.fromkeys(units)), reason="; ".join(reasons))


def _fault(module: nn.Module, table: Coupling, hidden: Tensor) -> str:
    """Return what is wrong with a layer after one unit of each part went; empty if nothing."""
    keep = torch.ones(table.per_block, table.count // table.per_block, dtype=torch.bool)
    if keep.shape[1] == 1:
        return f"there is a single {table.unit}"
    keep[:, 0] = False
    shrunk, masked = _twin(module), _twin(module)
    try:
        shrink_(shrunk, table, keep.view(table.grid))
        own = _called(shrunk, hidden)
        if "mask" not in table.modes:
            return ""
        mask_(masked, table, keep.view(table.grid))
        expected = _called(masked, hidden)
    except Exception as error:
        return (
            f"with one less its forward fails ({_say(error)}); name the attributes that count "
            f'them: sm.register(…, sizes={{"{table.unit}": [...]}})'
        )
    return "" if _same(own, expected) else "shrunk and masked it computes different outputs"


def _twin(module: nn.Module) -> nn.Module:
    """Return a copy in evaluation mode, in at least float32, with every weight moved a little."""
    twin = copy.deepcopy(module).eval()
    draw = torch.Generator().manual_seed(0)
    for value in twin.parameters():
        if value.dtype in (torch.float16, torch.bfloat16):
            value.data = value.data.float()
        # So that what starts at zero, or all alike, shows as well.
        noise = torch.randn(value.shape, generator=draw).to(value)
        value.data = value.data + 0.05 * noise
    return twin


def _input(weight: Tensor) -> Tensor:
    """Draw what a layer with this first weight can be given."""
    draw = torch.Generator().manual_seed(1)
    return torch.randn(_BATCH, _LENGTH, weight.shape[1], generator=draw).to(weight)


def _called(module: nn.Module, hidden: Tensor) -> Tensor:
    out = module(hidden)
    first: Tensor = out[0] if isinstance(out, tuple) else out
    return first


def _same(own: Any, expected: Tensor) -> bool:
    if not isinstance(own, Tensor) or own.shape != expected.shape:
        return False
    largest = float(expected.abs().max())
    return float((own - expected).abs().max()) <= _TOLERANCE * max(largest, 1e-6)


def _say(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0][:120] if str(error) else ''}"
