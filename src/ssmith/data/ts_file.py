"""The ``.ts`` format: a header, then one sequence per line with its target last."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from ssmith.core.errors import DataError
from ssmith.data.files import read_text
from ssmith.data.pool import pad_series
from ssmith.data.raw import Raw
from ssmith.data.table import targets_of

TS = ".ts"
_HEADER = ("@problemname", "@timestamps", "@univariate", "@classlabel", "@targetlabel", "@data")


def is_ts(text: str) -> bool:
    """Return whether a text is series in this format, and not a program in TypeScript."""
    return any(line.strip().lower().startswith(_HEADER) for line in text.splitlines()[:200])


def read_ts_series(path: Path, columns: Sequence[str] = (), *, labelled: bool = True) -> Raw:
    """Read a ``.ts`` file of the user's."""
    if columns:
        raise DataError(f"{path.name} has no column {columns[0]!r}", allowed="no columns in .ts")
    series, targets = read_ts(path, labelled=labelled)
    if not series:
        raise DataError(f"{path.name} has no sequence", next_step="check how it was written")
    channels = series[0].shape[1]
    other = next((k for k, one in enumerate(series) if one.shape[1] != channels), None)
    if other is not None:
        raise DataError(
            f"{path.name}: sequence {other} has {series[other].shape[1]} channels",
            allowed=f"{channels}, as the first sequence has",
        )
    return Raw(
        path=path,
        x=pad_series(series).double(),
        lengths=torch.tensor([len(one) for one in series]),
        y=targets_of(targets) if targets else [],
    )


def read_ts(path: Path, *, labelled: bool = True) -> tuple[list[Float32[Tensor, "_ c"]], list[str]]:
    """Read the sequences and targets of a ``.ts`` file without time stamps.

    Channels are separated by ``:``, steps by ``,``. Without ``labelled`` there may be no targets.
    """
    lines = read_text(path).splitlines()
    header, start = header_of_ts(path, lines)
    if header.get("@timestamps") == "true":
        raise DataError(
            f"{path.name}: steps with time stamps", allowed="@timeStamps false",
            next_step="read it as recordings: ssmith train --data FILE --task TASK",
        )  # fmt: skip
    without = header.get("@classlabel", header.get("@targetlabel", "")).startswith("false")
    if without and labelled:
        raise DataError(f"{path.name}: sequences without a target", allowed="a target in each")
    series: list[Tensor] = []
    targets: list[str] = []
    for number, line in enumerate(lines[start:], start=start + 1):
        if not line.strip():
            continue
        channels = line.strip().split(":")
        targets += [] if without else [channels.pop().strip()]
        series.append(_parse(channels, f"{path.name} line {number}"))
    return series, targets


def header_of_ts(path: Path, lines: Sequence[str]) -> tuple[dict[str, str], int]:
    """Return what stands before the line ``@data``, in lower case, and which line comes after."""
    start = next((i for i, line in enumerate(lines) if line.strip().lower() == "@data"), None)
    if start is None:
        raise DataError(f"{path.name} has no line @data", allowed="series in the .ts format")
    pairs = (line.strip().lower().partition(" ") for line in lines[:start])
    return {name: value.strip() for name, _, value in pairs}, start + 1


def _parse(channels: list[str], where: str) -> Float32[Tensor, "l c"]:
    try:
        # Python reads 1_000 as a number, and nothing else does.
        columns = [np.array(channel.replace("_", "?").split(","), dtype=np.float64)
                   for channel in channels]  # fmt: skip
    except ValueError as error:
        gap = any("?" in channel for channel in channels)
        raise DataError(
            f"{where}: {'a value is missing (?)' if gap else error}",
            allowed="numbers",
            next_step="fill the gaps, or leave the sequence out" if gap else "correct the line",
        ) from error
    if not columns or len({len(column) for column in columns}) != 1:
        raise DataError(f"{where}: channels differ in length", allowed="equal lengths")
    values = torch.from_numpy(np.stack(columns, axis=1)).to(torch.float32)
    if not bool(values.isfinite().all()):
        raise DataError(f"{where}: a value is not finite", allowed="finite numbers")
    return values
