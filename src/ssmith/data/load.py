"""One door to all data: a named set, or the user's own file."""

from __future__ import annotations

from pathlib import Path

from ssmith.core.sequences import SequenceData
from ssmith.data.embedded import PREFIX, load_embedded


def load_data(spec: str | Path, *, seed: int = 0) -> SequenceData:
    """Load a data set in its splits.

    Args:
        spec: ``embedded:NAME``, or a path.
        seed: seed of the draw of the data (not of training), any integer ≥ 0.
    """
    return load_embedded(str(spec).removeprefix(PREFIX), seed=seed)
