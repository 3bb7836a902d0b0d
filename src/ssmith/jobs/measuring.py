"""How two models are measured beside each other, wherever they are."""

from __future__ import annotations

from dataclasses import dataclass

from ssmith.evaluation import OwnMetricConfig, SpeedConfig


@dataclass(frozen=True, kw_only=True)
class MeasuringConfig(OwnMetricConfig):
    """How speed is measured, and what the user measures besides.

    Args:
        threads: CPU threads; None leaves PyTorch's setting.
        speed_seconds: time for each speed measurement.
    """

    threads: int | None = None
    speed_seconds: float = 2.0

    def speed(self) -> SpeedConfig:
        """Return how speed is measured."""
        return SpeedConfig(seconds=self.speed_seconds, threads=self.threads)
