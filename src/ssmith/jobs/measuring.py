"""How two models are measured beside each other, wherever they are."""

from __future__ import annotations

from dataclasses import dataclass

from ssmith.evaluation import OwnMetric, SpeedConfig, own_metric


@dataclass(frozen=True, kw_only=True)
class MeasuringConfig:
    """How speed is measured, and what the user measures besides.

    Args:
        own_metric: the user's own metric, ``"module:function"`` or ``"file.py:function"``.
        own_lower_is_better: direction of the own metric.
        threads: CPU threads; None leaves PyTorch's setting.
        speed_seconds: time for each speed measurement.
    """

    own_metric: str | None = None
    own_lower_is_better: bool = False
    threads: int | None = None
    speed_seconds: float = 2.0

    def own(self) -> OwnMetric | None:
        """Return the user's own metric, if there is one; its code is imported."""
        if self.own_metric is None:
            return None
        return own_metric(self.own_metric, higher_is_better=not self.own_lower_is_better)

    def speed(self) -> SpeedConfig:
        """Return how speed is measured."""
        return SpeedConfig(seconds=self.speed_seconds, threads=self.threads)
