"""A family that its tables say all about: classes of transformers, and users' own once tried."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from torch import nn

from ssmith.core.layers import LayerInfo
from ssmith.core.unit import Coupling
from ssmith.families.admission import Admission, try_tables
from ssmith.families.coupling import present
from ssmith.families.family import Family, Kind
from ssmith.families.parts.stock import Engine, is_stock, kind_of
from ssmith.ops.backends import choose


@dataclass(frozen=True, kw_only=True)
class TableFamily(Family):
    """Layers that are cut by their tables alone.

    ``tables`` maps a layer to where its units live, ``config`` to what a stock configuration says
    of it. Tables of ``classes`` of transformers hold by the laws of the tests; a class that is none
    of these and looks ``like`` one is tried.
    """

    name: str
    kind: Kind = "ssm"
    classes: Collection[str]
    tables: Callable[[Any], tuple[Coupling, ...]]
    config: Callable[[Any], Mapping[str, Fraction]]
    like: Callable[[Any], bool] | None = None
    engine: Engine | None = None

    def owns(self, module: nn.Module) -> bool:
        if kind_of(module) in self.classes and is_stock(module):
            return True
        return self.like is not None and self.like(module)

    def couplings(self, module: Any) -> tuple[Coupling, ...]:
        return self.tables(module)

    def admit(self, module: Any) -> Admission:
        try:
            tables = self.tables(module)
        except AttributeError as error:
            return Admission(units=(), reason=f"a part is not there: {error}")
        if not tables:
            return Admission(units=(), reason="its tensors are not laid out like any known one's")
        if is_stock(module) and kind_of(module) in self.classes:
            return Admission(units=tuple(dict.fromkeys(item.unit for item in tables)))
        return try_tables(module, tables)

    def stock_config(self, module: Any) -> Mapping[str, Fraction]:
        return self.config(module)

    def info(self, name: str, module: Any) -> LayerInfo:
        admission, engine = self.admit(module), self.engine
        known = self.tables(module) if admission.units else ()
        tables = {item.unit: item for item in known}
        mixer = None if engine is None else engine.mixers.get(kind_of(module))
        notes = [admission.said()]
        if engine is not None and mixer is not None:
            path = choose(engine.scan, module.A_log)
            notes.insert(0, f"runs on the engine ({path.backend})")
        return LayerInfo(
            name=name,
            family=self.name if mixer is None else mixer.model_type,
            units={unit: table.count for unit, table in tables.items()},
            grid={unit: table.grid for unit, table in tables.items()},
            width=next(
                (int(getattr(module, size)) for size in _WIDTHS if hasattr(module, size)), 0
            ),
            parameters=sum(parameter.numel() for parameter in module.parameters()),
            masked={
                unit: int((~present(module, table)).sum()) for unit, table in tables.items()
            },
            notes=tuple(notes),
        )  # fmt: skip


_WIDTHS = ("intermediate_size", "hidden_size")
