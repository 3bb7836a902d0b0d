"""Inspection: what a model is made of, before anything is done to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ssmith.core.layers import LayerInfo
from ssmith.core.settings import AsDict


@dataclass(frozen=True, kw_only=True)
class Inspection(AsDict):
    """Layers, states and sizes of a model.

    The digest is over the weights, and ``facts`` are JSON-ready: task, inputs, outputs.
    """

    name: str
    digest: str
    parameters: int
    tensor_bytes: int
    layers: tuple[LayerInfo, ...]
    facts: dict[str, Any]

    def __str__(self) -> str:
        share = sum(layer.parameters for layer in self.layers) / max(self.parameters, 1)
        head = (
            f"{self.name}: {self.parameters:,} parameters ({self.tensor_bytes:,} bytes), "
            f"{share:.0%} of them in {len(self.layers)} state space layers"
        )
        facts = [f"  {name}: {value}" for name, value in self.facts.items()]
        rows = []
        for layer in self.layers:
            cuts = ", ".join(
                f"{count} {unit}"
                + (f" ({layer.masked[unit]} masked)" if layer.masked[unit] else "")
                for unit, count in layer.units.items()
            )
            notes = f" [{'; '.join(layer.notes)}]" if layer.notes else ""
            rows.append(f"  {layer.name}: {layer.family}, width {layer.width}, {cuts}{notes}")
        return "\n".join([head, *facts, *rows])
