"""What attaching an adapter did: how much of the model it reaches, and what it trains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ssmith.core.findings import Finding
from ssmith.core.settings import to_mapping
from ssmith.tune.adapters.survey import Coverage


@dataclass(frozen=True, kw_only=True)
class AttachReport:
    """What an adapter is made of; printing it shows a summary.

    ``stored`` counts the numbers of its file, fixed bases and places too; ``coverage`` says per
    kind of layer how many the adapter reaches, and how many there are; ``tensors`` the shape of
    every trained tensor, by its name in the model; ``proof`` the norm of each gradient in the proof
    that it acts, empty without one.
    """

    name: str
    methods: tuple[str, ...]
    parameters: int
    stored: int
    base_parameters: int
    coverage: Coverage
    tensors: dict[str, tuple[int, ...]]
    proof: dict[str, float]
    findings: tuple[Finding, ...] = ()

    @property
    def share(self) -> float:
        """Trained numbers as a fraction of the base model's."""
        return self.parameters / self.base_parameters if self.base_parameters else 0.0

    @property
    def whole(self) -> float:
        """Trained numbers as a fraction of base and adapter together, as `peft` counts."""
        return self.parameters / (self.base_parameters + self.parameters)

    def __str__(self) -> str:
        reach = ", ".join(f"{kind} {got}/{total}" for kind, (got, total) in self.coverage.items())
        proven = f"all {len(self.proof)} tensors act and learn" if self.proof else "not proven"
        lines = [
            f"adapter {self.name!r}: {' + '.join(self.methods)}",
            f"  layers   {reach or 'none of their own'}",
            f"  trains   trainable params: {self.parameters:,} || all params: "
            f"{self.base_parameters + self.parameters:,} || trainable%: {100 * self.whole:.4f}",
            f"  stores   {self.stored:,} numbers",
            f"  proof    {proven}",
        ]
        lines += [f"  note     {finding.message}" for finding in self.findings]
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dict."""
        return {**to_mapping(self), "share": self.share}
