"""Reading ``.ts`` files: a header, then one sequence per line with its target last."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from ssmith.core.errors import DataError


def read_ts(path: Path) -> tuple[list[Float32[Tensor, "_ c"]], list[str]]:
    """Read the sequences and targets of a ``.ts`` file without time stamps.

    Channels are separated by ``:``, steps by ``,``.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"cannot read {path.name}: {error}", next_step="reinstall the package that holds it"
        ) from error
    start = next((i for i, line in enumerate(lines) if line.strip().lower() == "@data"), None)
    if start is None:
        raise DataError(f"{path.name} has no line @data", allowed="the .ts format")
    series: list[Tensor] = []
    targets: list[str] = []
    for number, line in enumerate(lines[start + 1 :], start=start + 2):
        if not line.strip():
            continue
        *channels, target = line.strip().split(":")
        series.append(_parse(channels, f"{path.name} line {number}"))
        targets.append(target.strip())
    return series, targets


def _parse(channels: list[str], where: str) -> Float32[Tensor, "l c"]:
    try:
        columns = [np.array(channel.split(","), dtype=np.float64) for channel in channels]
    except ValueError as error:
        raise DataError(f"{where}: {error}", allowed="numbers") from error
    if not columns or len({len(column) for column in columns}) != 1:
        raise DataError(f"{where}: channels differ in length", allowed="equal lengths")
    values = torch.from_numpy(np.stack(columns, axis=1)).to(torch.float32)
    if not bool(values.isfinite().all()):
        raise DataError(f"{where}: a value is not finite", allowed="finite numbers")
    return values
