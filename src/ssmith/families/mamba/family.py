"""Where the units of Mamba's mixers live: Mamba, Falcon-Mamba, Jamba."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jaxtyping import Bool
from torch import Tensor, nn

from ssmith.core.errors import PlanError
from ssmith.core.layers import STATE, LayerInfo
from ssmith.core.selective import ENTRY, STORED_A_LOG
from ssmith.core.unit import Coupling, Mode
from ssmith.families.coupling import mask_, present
from ssmith.families.family import Kind, View, cut_by_table_
from ssmith.families.mamba.forward import mamba_forward
from ssmith.families.mamba.selective import SEMANTICS, SelectiveLayer
from ssmith.families.mamba.units import MIXERS, NORMALISED, PROJECTIONS, entry, state, weight
from ssmith.families.masks import mask_of
from ssmith.families.parts.stock import Engine, kind_of
from ssmith.ops.backends import choose
from ssmith.units import unit_named


@dataclass(frozen=True)
class MambaFamily:
    """Mixers that scan with one A_log per channel and state, selected by ``x_proj``."""

    name: str
    engine: Engine | None
    kind: Kind = "ssm"

    def owns(self, module: nn.Module) -> bool:  # noqa: D102
        return kind_of(module) in MIXERS

    def couplings(self, module: Any) -> tuple[Coupling, ...]:  # noqa: D102
        weights = (weight(module, f"{name}.weight") for name in PROJECTIONS)
        return (state(module), entry(module), *weights)

    def cut_(  # noqa: D102
        self,
        module: Any,
        coupling: Coupling,
        keep: Bool[Tensor, "..."],
        mode: Mode,
        semantics: str | None,
    ) -> None:
        if coupling.unit != "entry":
            cut_by_table_(module, coupling, keep, mode)
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

    def present(self, module: Any, coupling: Coupling) -> Bool[Tensor, "..."]:  # noqa: D102
        return present(module, coupling)

    def info(self, name: str, module: Any) -> LayerInfo:  # noqa: D102
        e, n = module.A_log.shape
        units = {STATE: n, "channels": e, ENTRY: e * n}
        path = choose("selective_scan", module.A_log)
        notes = [f"runs on the engine ({path.backend})", "can be cut: state, entry, weight"]
        if SelectiveLayer(name, module).normalises:
            notes.append(f"state: {NORMALISED}")
        silent = int((~present(module, state(module))).sum())
        return LayerInfo(
            name=name,
            family=MIXERS[kind_of(module)].model_type,
            units=units,
            grid={STATE: (n,), "channels": (e,), ENTRY: (e, n)},
            width=e,
            parameters=sum(parameter.numel() for parameter in module.parameters()),
            masked={
                STATE: silent, "channels": 0, ENTRY: int((~mask_of(module, "A_log")).sum())
            },
            notes=tuple(notes),
        )  # fmt: skip

    def view(self, name: str, module: Any) -> View | None:  # noqa: D102
        return SelectiveLayer(name, module)


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
