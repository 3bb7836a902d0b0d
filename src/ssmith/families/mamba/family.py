"""Where the units of Mamba's mixers live: Mamba, Falcon-Mamba, Jamba."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from jaxtyping import Bool
from torch import Tensor, nn

from ssmith.core.errors import PlanError
from ssmith.core.layers import STATE, LayerInfo
from ssmith.core.selective import ENTRY, STORED_A_LOG
from ssmith.core.unit import Coupling, Mode
from ssmith.families.admission import Admission, try_rebuilding
from ssmith.families.coupling import mask_, present
from ssmith.families.family import Family, View
from ssmith.families.layout import registered
from ssmith.families.mamba.forward import mamba_forward
from ssmith.families.mamba.selective import SEMANTICS, SelectiveLayer
from ssmith.families.mamba.units import (
    MIXERS,
    NORMALISED,
    channel,
    config,
    entry,
    is_known,
    looks_like_mamba,
    state,
    weights,
)
from ssmith.families.parts.stock import Engine, kind_of
from ssmith.ops.backends import choose
from ssmith.units import unit_named


@dataclass(frozen=True)
class MambaFamily(Family):
    """Mixers that scan with one A_log per channel and state, selected by ``x_proj``."""

    name: str
    engine: Engine | None

    def owns(self, module: nn.Module) -> bool:
        layout = registered(module)
        if layout is not None:
            return layout.family == self.name
        return is_known(module) or looks_like_mamba(module)

    def couplings(self, module: Any) -> tuple[Coupling, ...]:
        return (state(module), entry(module), *weights(module), channel(module))

    def admit(self, module: Any) -> Admission:
        """Return what can be cut of a layer: everything of transformers', the rest is tried."""
        if is_known(module):
            return Admission(units=_UNITS)
        try:
            layer, tables = SelectiveLayer.of("", module), self.couplings(module)
        except (AttributeError, IndexError) as error:
            return Admission(units=(), reason=f"a part is not there: {error}")
        return try_rebuilding(module, layer, tables)

    def cut_(
        self,
        module: Any,
        coupling: Coupling,
        keep: Bool[Tensor, "..."],
        mode: Mode,
        semantics: str | None = None,
    ) -> None:
        if coupling.unit != "entry":
            super().cut_(module, coupling, keep, mode)
            return
        unit = unit_named("entry")
        chosen = unit.semantics[0] if semantics is None else semantics
        unit.check_semantics(chosen)
        before = getattr(module, SEMANTICS, None)
        if before not in (None, chosen):
            raise PlanError(
                f"entries were cut as {before!r}, not {chosen!r}",
                allowed="one semantics for all cut entries of a model",
                next_step=f"cut further with semantics {before!r}",
            )
        mask_(module, coupling, keep, STORED_A_LOG[chosen])
        setattr(module, SEMANTICS, chosen)

    def stock_config(self, module: Any) -> Mapping[str, Fraction]:
        return config(module)

    def info(self, name: str, module: Any) -> LayerInfo:
        admission = self.admit(module)
        parameters = sum(parameter.numel() for parameter in module.parameters())
        if not admission.units:
            return LayerInfo(
                name=name, family=self.name, units={STATE: 0}, grid={}, width=0,
                parameters=parameters, masked={STATE: 0}, notes=(admission.said(),),
            )  # fmt: skip
        layer = SelectiveLayer.of(name, module)
        units = {STATE: layer.n, "channel": layer.e, ENTRY: layer.e * layer.n}
        notes = [admission.said()]
        if is_known(module):
            path = choose("selective_scan", module.A_log)
            notes.insert(0, f"runs on the engine ({path.backend})")
        if layer.normalises and "state" in admission.units:
            notes.append(f"state: {NORMALISED}")
        silent = {
            unit: int((~present(module, table)).sum())
            for unit, table in (
                (STATE, state(module)),
                ("channel", channel(module)),
                (ENTRY, entry(module)),
            )
        }
        return LayerInfo(
            name=name,
            family=MIXERS[kind_of(module)].model_type if is_known(module) else self.name,
            units=units,
            grid={STATE: (layer.n,), "channel": (layer.e,), ENTRY: (layer.e, layer.n)},
            width=layer.e,
            parameters=parameters,
            masked=silent,
            notes=tuple(notes),
        )

    def view(self, name: str, module: Any) -> View | None:
        return SelectiveLayer.of(name, module)


_UNITS = ("state", "entry", "weight", "channel")
MAMBA = MambaFamily(
    "mamba",
    Engine(
        name="mamba",
        forward=mamba_forward,
        scan="selective_scan",
        ops=("causal_conv", "selective_scan", "selective_step", "mixer_step"),
        mixers=MIXERS,
    ),
)


def cut_(
    layer: SelectiveLayer,
    unit: str,
    keep: Bool[Tensor, "..."],
    *,
    target: str = "",
    semantics: str | None = None,
) -> None:
    """Cut units of a mixer in their own way; ``target`` is our name of the weight they are in."""
    place = layer.own_name(target) if target else ""
    tables = {(item.unit, item.target): item for item in MAMBA.couplings(layer.module)}
    table = tables[unit, place]
    MAMBA.cut_(layer.module, table, keep, table.modes[0], semantics)
