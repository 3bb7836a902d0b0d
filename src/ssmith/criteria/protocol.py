"""What a criterion is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from ssmith.core.layers import Modes
from ssmith.core.scores import Scores


@runtime_checkable
class Criterion(Protocol):
    """Says how much each unit matters; never touches a model, a file or a device.

    Settings are dataclass fields. `needs` names the calibration statistics it reads; a criterion
    that reads none is data-free.
    """

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the statistics it reads: ``"moments"``, ``"sensitivity"``; () for none."""

    @property
    def label(self) -> str:
        """Name for plots and tables."""

    def __call__(
        self, layers: Sequence[Modes], stats: Mapping[str, object] | None = None
    ) -> Scores:
        """Score every unit of every layer."""
