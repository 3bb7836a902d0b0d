"""Where the states of S5 and S4D layers live."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jaxtyping import Bool
from torch import Tensor, nn

from ssmith.core.layers import LayerInfo
from ssmith.core.unit import Coupling, Mode, Slice
from ssmith.families.coupling import shrink_
from ssmith.families.family import Family, View
from ssmith.families.lti import LTILayer
from ssmith.families.s4d import S4DLayer
from ssmith.families.s5 import S5Layer


@dataclass(frozen=True)
class DiagonalFamily(Family):
    """Diagonal LTI layers of ours; a mask is a buffer of theirs, which is saved with them."""

    layer: type[LTILayer]
    name: str

    def owns(self, module: nn.Module) -> bool:
        return isinstance(module, self.layer)

    def couplings(self, module: Any) -> tuple[Coupling, ...]:
        slices = _s5(module) if isinstance(module, S5Layer) else _s4d(module)
        return (Coupling(unit="state", grid=module.grid(), slices=slices, least=0),)

    def cut_(
        self,
        module: Any,
        coupling: Coupling,
        keep: Bool[Tensor, "..."],
        mode: Mode,
        semantics: str | None = None,
    ) -> None:
        if mode == "mask":
            module.mask_(keep.to(next(module.parameters()).device))
            return
        if isinstance(module, S4DLayer):
            # Channels may keep unequal numbers of states, which no axis can hold.
            module.drop_states_(keep.reshape(-1))
            return
        shrink_(module, coupling, keep)
        if module.state_mask is not None and bool(module.state_mask.all()):
            module.state_mask = None

    def present(self, module: Any, coupling: Coupling) -> Bool[Tensor, "..."]:
        there: Tensor = module.present()
        return there.view(coupling.grid)

    def info(self, name: str, module: Any) -> LayerInfo:
        found: LayerInfo = module.info(name)
        return found

    def view(self, name: str, module: Any) -> View | None:
        layer: LTILayer = module
        return layer


def _s5(layer: S5Layer) -> tuple[Slice, ...]:
    axes = {"Lambda_re": 0, "Lambda_im": 0, "B": 0, "log_step": 0}
    axes |= {"C1": 1, "C2": 1} if layer.options.bidirectional else {"C": 1}
    axes |= {} if layer.state_mask is None else {"state_mask": 0}
    return tuple(Slice(parameter=name, dim=axis) for name, axis in axes.items())


def _s4d(layer: S4DLayer) -> tuple[Slice, ...]:
    lead = 1 if layer.options.bidirectional else 0
    return tuple(
        Slice(parameter=name, dim=None, start=start)
        for name, start in (("log_A_real", 0), ("A_imag", 0), ("C", lead))
    )


S5 = DiagonalFamily(S5Layer, "s5")
S4D = DiagonalFamily(S4DLayer, "s4d")
