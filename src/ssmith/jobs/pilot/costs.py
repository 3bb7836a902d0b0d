"""Speed, memory and size of two models, on the same batch and the same machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from ssmith.artefact import locate
from ssmith.artefact.tuned import base_of, is_adapter
from ssmith.core.sequences import Sequences
from ssmith.core.tokens import TokenWindows
from ssmith.evaluation import (
    Change,
    Memory,
    Speed,
    SpeedConfig,
    collect_changes,
    measure_language_memory,
    measure_language_speed,
    measure_memory,
    measure_speed,
    state_space_run,
)
from ssmith.families import SequenceModel


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What two models cost to run and to keep, (before, after).

    Args:
        speed: times.
        memory: bytes while running.
        file_bytes: bytes of the weights on disk.
        parameters: numbers of parameters.
    """

    speed: Speed
    memory: Memory
    file_bytes: tuple[int, int]
    parameters: tuple[int, int]

    def changes(self) -> tuple[Change, ...]:
        """Return every measured change, for the gate."""
        return collect_changes(speed=self.speed, memory=self.memory, file_bytes=self.file_bytes)

    def findings(self) -> list[dict[str, Any]]:
        """Return what to know of the times, JSON-ready."""
        return [item.as_dict() for item in self.speed.findings()]

    def sections(self) -> dict[str, Any]:
        """Return the receipt's sections speed, memory and size."""
        return {
            "speed": self.speed.as_dict(),
            "memory": self.memory.as_dict(),
            "size": {
                "bytes": dict(zip(("before", "after"), self.file_bytes, strict=True)),
                "parameters": dict(zip(("before", "after"), self.parameters, strict=True)),
            },
        }


def measure_language_costs(
    models: tuple[nn.Module, nn.Module],
    weights: tuple[Path, Path],
    windows: TokenWindows,
    config: SpeedConfig,
) -> Costs:
    """Measure two language models, (before, after), on the scan engine.

    Args:
        models: the models.
        weights: their directories; every file that holds tensors counts, of an adapter also those
            of its base.
        windows: of one forward pass, none padded.
        config: how speed is measured.

    Returns:
        All costs.
    """
    before, after = models
    first, second = (sum(item.numel() for item in model.parameters()) for model in models)
    sizes = [tensor_bytes(place) for place in weights]
    return Costs(
        speed=measure_language_speed(before, after, windows, config),
        memory=measure_language_memory(before, after, windows),
        file_bytes=(sizes[0], sizes[1]),
        parameters=(first, second),
    )


def tensor_bytes(place: Path) -> int:
    """Return the bytes of all files of tensors that a model is opened from.

    Args:
        place: directory of a model, or of an adapter, which needs its base as well.

    Returns:
        Bytes on disk.
    """
    own = sum(item.stat().st_size for item in place.glob("*.safetensors"))
    return own + (tensor_bytes(locate(base_of(place))) if is_adapter(place) else 0)


def measure_costs(
    models: tuple[SequenceModel, SequenceModel],
    weights: tuple[Path, Path],
    batch: Sequences,
    config: SpeedConfig,
) -> Costs:
    """Measure two models, (before, after).

    Args:
        models: the models.
        weights: their weight files.
        batch: the sequences of one forward pass.
        config: how speed is measured.

    Returns:
        All costs.
    """
    before, after = models
    first, second = (sum(item.numel() for item in model.parameters()) for model in models)
    speed = measure_speed(
        before,
        after,
        batch,
        config=config,
        state_space=(state_space_run(before, batch), state_space_run(after, batch)),
    )
    return Costs(
        speed=speed,
        memory=measure_memory(before, after, batch),
        file_bytes=(weights[0].stat().st_size, weights[1].stat().st_size),
        parameters=(first, second),
    )
