"""What a family of layers says of itself, and a site: one layer of a network that can be cut."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal

from jaxtyping import Bool
from torch import Tensor, nn

from ssmith.core.errors import UnsupportedError
from ssmith.core.layers import LayerInfo
from ssmith.core.unit import Coupling, Mode
from ssmith.families.admission import Admission
from ssmith.families.coupling import mask_, present, shrink_
from ssmith.families.lti import LTILayer
from ssmith.families.mamba.selective import SelectiveLayer
from ssmith.families.mamba2.grouped import GroupedLayer
from ssmith.families.parts.stock import Engine
from ssmith.families.routed import ExpertLayer

Kind = Literal["ssm", "attention", "mlp"]
KINDS: tuple[Kind, ...] = ("ssm", "attention", "mlp")
View = LTILayer | SelectiveLayer | GroupedLayer | ExpertLayer


class Family(ABC):
    """What layers of one kind are made of, and how they are cut: by their tables, if nothing else.

    ``engine`` says how the engine runs its mixers; None where it does not. ``holds_layers`` says
    whether layers inside of one are sites of their own, not part of it.
    """

    name: str
    kind: Kind = "ssm"
    engine: Engine | None = None
    holds_layers: bool = False

    @abstractmethod
    def owns(self, module: nn.Module) -> bool:
        """Return whether a module is a layer of this family, by what it is."""

    @abstractmethod
    def couplings(self, module: Any) -> tuple[Coupling, ...]:
        """Return where each unit lives in a layer."""

    @abstractmethod
    def info(self, name: str, module: Any) -> LayerInfo:
        """Return what `inspect` shows of a layer."""

    def admit(self, module: Any) -> Admission:
        """Return what of this can be cut, and why the rest cannot; cheap when asked again."""
        return Admission(units=tuple(dict.fromkeys(item.unit for item in self.couplings(module))))

    def cut_(
        self,
        module: Any,
        coupling: Coupling,
        keep: Bool[Tensor, "..."],
        mode: Mode,
        semantics: str | None = None,
    ) -> None:
        """Cut units of a layer; ``keep`` is in the coupling's grid, True = the unit stays."""
        (shrink_ if mode == "shrink" else mask_)(module, coupling, keep)

    def present(self, module: Any, coupling: Coupling) -> Bool[Tensor, "..."]:
        """Return which units no mask has silenced, in the coupling's grid."""
        return present(module, coupling)

    def stock_config(self, module: Any) -> Mapping[str, Fraction]:
        """Return what a stock configuration says of a layer; empty where it cannot."""
        return {}

    def view(self, name: str, module: Any) -> View | None:
        """Return the layer as criteria and calibration see it; None where there is no such view."""
        return None


@dataclass(frozen=True, kw_only=True)
class Site:
    """One layer of a network.

    ``shared`` maps its parameters that stand in other places of the network as well to one of
    these.
    """

    name: str
    module: nn.Module
    family: Family
    shared: Mapping[str, str] = field(default_factory=dict)

    @property
    def couplings(self) -> tuple[Coupling, ...]:
        """Where each unit lives in it that can be cut."""
        admitted = self.family.admit(self.module).units
        if not admitted:
            return ()
        return tuple(
            item
            for item in self.family.couplings(self.module)
            if item.unit in admitted and not self._elsewhere(item)
        )

    def _elsewhere(self, coupling: Coupling) -> str:
        """Return which shared parameter a cut would change in another place, too; empty if none."""
        names = (item.parameter for item in coupling.slices)
        return next((name for name in names if name in self.shared), "")

    def coupling(self, unit: str, target: str = "") -> Coupling:
        """Return where a unit lives in it.

        ``target`` says where in the site, for units that live in several places
        (``"in_proj.weight"``).
        """
        have = self.couplings
        for item in have:
            if (item.unit, item.target) == (unit, target):
                return item
        reason = self.family.admit(self.module).reason or self._tied(unit, target)
        of = f" of {target}" if target else ""
        names = dict.fromkeys(
            item.unit + (f" of {item.target}" if item.unit == unit else "") for item in have
        )
        raise UnsupportedError(
            f"{self.name or type(self.module).__name__} has no {unit}{of} that could be cut"
            + (f": {reason}" if reason else ""),
            allowed=", ".join(names) or "nothing in this layer",
        )

    def _tied(self, unit: str, target: str) -> str:
        for item in self.family.couplings(self.module) if self.shared else ():
            name = self._elsewhere(item)
            if (item.unit, item.target) == (unit, target) and name:
                return f"its {name} is {self.shared[name]} as well"
        return ""

    def cut_(
        self,
        coupling: Coupling,
        keep: Bool[Tensor, "..."],
        mode: Mode | None = None,
        semantics: str | None = None,
    ) -> None:
        """Cut units of the layer.

        ``mode`` and ``semantics`` are the unit's usual ones if None.
        """
        chosen = coupling.modes[0] if mode is None else mode
        if chosen not in coupling.modes:
            raise UnsupportedError(
                f"{coupling.unit} of {self.name} cannot be cut by mode={chosen!r}",
                allowed=", ".join(coupling.modes),
            )
        self.family.cut_(self.module, coupling, keep, chosen, semantics)

    def present(self, coupling: Coupling) -> Bool[Tensor, "..."]:
        """Return which units no mask has silenced, in the coupling's grid."""
        return self.family.present(self.module, coupling)

    def view(self) -> View | None:
        """Return the layer as criteria and calibration see it."""
        return self.family.view(self.name, self.module)

    def info(self) -> LayerInfo:
        """Return what `inspect` shows of it."""
        return self.family.info(self.name, self.module)
