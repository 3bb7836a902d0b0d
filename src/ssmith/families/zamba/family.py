"""Zamba's mixer: Mamba's scan, by head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jaxtyping import Bool
from torch import Tensor, nn

from ssmith.core.layers import STATE, LayerInfo
from ssmith.core.unit import Coupling, Mode
from ssmith.families.admission import Admission
from ssmith.families.coupling import present
from ssmith.families.family import Kind, View, cut_by_table_
from ssmith.families.parts.stock import Engine, Mixer, kind_of
from ssmith.families.zamba.forward import zamba_forward
from ssmith.ops.backends import choose

MIXERS = {"ZambaMambaMixer": Mixer(model_type="zamba", hybrid="ZambaModel")}


@dataclass(frozen=True)
class ZambaFamily:
    """Mixers whose heads each select and scan on their own."""

    name: str
    engine: Engine | None
    kind: Kind = "ssm"

    def owns(self, module: nn.Module) -> bool:  # noqa: D102
        return kind_of(module) in MIXERS

    def couplings(self, module: Any) -> tuple[Coupling, ...]:  # noqa: D102
        del module
        return ()

    def admit(self, module: Any) -> Admission:  # noqa: D102
        del module
        return Admission(units=(), reason="its units are not told apart yet")

    def cut_(  # noqa: D102
        self,
        module: Any,
        coupling: Coupling,
        keep: Bool[Tensor, "..."],
        mode: Mode,
        semantics: str | None,
    ) -> None:
        del semantics
        cut_by_table_(module, coupling, keep, mode)

    def present(self, module: Any, coupling: Coupling) -> Bool[Tensor, "..."]:  # noqa: D102
        return present(module, coupling)

    def info(self, name: str, module: Any) -> LayerInfo:  # noqa: D102
        units = {STATE: module.ssm_state_size, "channel": module.intermediate_size}
        units["head"] = module.n_mamba_heads
        path = choose("selective_scan", module.A_log)
        return LayerInfo(
            name=name,
            family=MIXERS[kind_of(module)].model_type,
            units=units,
            grid={unit: (count,) for unit, count in units.items()},
            width=module.intermediate_size,
            parameters=sum(parameter.numel() for parameter in module.parameters()),
            masked=dict.fromkeys(units, 0),
            notes=(f"runs on the engine ({path.backend})", "cannot be pruned yet"),
        )

    def view(self, name: str, module: Any) -> View | None:  # noqa: D102
        del name, module
        return None


ZAMBA = ZambaFamily(
    "zamba",
    Engine(
        name="zamba",
        forward=zamba_forward,
        scan="selective_scan",
        ops=("causal_conv", "selective_scan", "selective_step"),
        mixers=MIXERS,
    ),
)
