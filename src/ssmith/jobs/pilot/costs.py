"""Speed, memory and size of two models, on the same batch and the same machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from ssmith.artefact.tuned import lineage
from ssmith.core.plan import PLAN
from ssmith.core.rows import Rows
from ssmith.core.sections import Pair, SizeSection
from ssmith.evaluation import (
    Change,
    Memory,
    Speed,
    SpeedConfig,
    collect_changes,
    measure_memory,
    measure_speed,
)
from ssmith.evaluation.memory import parameter_bytes


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What two models cost to run and to keep, (before, after).

    Sizes are bytes of the weights on disk and numbers of parameters.
    """

    speed: Speed
    memory: Memory
    file_bytes: tuple[int, int]
    parameters: tuple[int, int]

    def changes(self) -> tuple[Change, ...]:
        """Return every measured change, for the gate."""
        return collect_changes(speed=self.speed, memory=self.memory, file_bytes=self.file_bytes)

    @property
    def size(self) -> SizeSection:
        """The receipt's section."""
        return SizeSection(bytes=Pair.of(self.file_bytes), parameters=Pair.of(self.parameters))


def tensor_bytes(place: Path) -> int:
    """Return the bytes of all files of tensors that a model is opened from.

    An adapter needs its base as well.
    """
    # What a plan holds was decided once, and no model is opened from it.
    files = [item for directory in lineage(place) for item in directory.glob("*.safetensors")]
    return sum(item.stat().st_size for item in files if item.stem != Path(PLAN).stem)


def measure_costs(
    models: tuple[nn.Module, nn.Module],
    places: tuple[Path | None, Path],
    rows: Rows,
    config: SpeedConfig,
) -> Costs:
    """Measure two models, (before, after).

    Every file in ``places`` that holds tensors counts; where one has no directory, the tensors in
    memory do.
    """
    before, after = models
    first, second = (sum(item.numel() for item in model.parameters()) for model in models)
    sizes = parameter_bytes(before), parameter_bytes(after)
    if places[0] is not None and places[1] is not None:
        sizes = tensor_bytes(places[0]), tensor_bytes(places[1])
    return Costs(
        speed=measure_speed(before, after, rows, config=config),
        memory=measure_memory(before, after, rows),
        file_bytes=sizes,
        parameters=(first, second),
    )
