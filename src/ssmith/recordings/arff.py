"""The ``.arff`` format: attributes, then one sequence per line; several channels in one text."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ssmith.core.errors import DataError
from ssmith.data.files import read_text
from ssmith.recordings.recording import Recordings

ARFF = ".arff"
_ATTRIBUTE = re.compile(r"@attribute\s+('[^']*'|\"[^\"]*\"|\S+)\s+(.*)", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class _Attribute:
    """A column, and whether it holds one of some words."""

    name: str
    nominal: bool
    relational: bool = False


def read_arff(path: Path) -> Recordings:
    """Read series: a column for each step, or one text of all channels; the label is last.

    One recording a line; a gap is a question mark. A last column of words, or of numbers that is
    called class, label or target, is the label. Raises `DataError` if it is no such file, with the
    line.
    """
    lines = read_text(path).splitlines()
    start = next((i for i, line in enumerate(lines) if line.strip().lower() == "@data"), None)
    attributes = _attributes(lines[:start])
    if start is None or not attributes:
        raise DataError(f"{path.name} has no attributes or no line @data", allowed=".arff")
    last = attributes[-1]
    labelled = last.nominal or last.name.lower() in ("class", "label", "target", "classlabel")
    values, labels = [], []
    for number, line in enumerate(lines[start + 1 :], start=start + 2):
        if not line.strip() or line.lstrip().startswith("%"):
            continue
        cells = next(csv.reader([line.strip()], quotechar="'", skipinitialspace=True))
        where = f"{path.name} line {number}"
        if len(cells) != len(attributes):
            raise DataError(f"{where} has {len(cells)} cells", allowed=f"{len(attributes)}")
        body = cells[:-1] if labelled else cells
        values.append(_series(body, where, relational=attributes[0].relational))
        labels.append(np.array([[cells[-1].strip()]]))
    if not values:
        raise DataError(f"{path.name} has no sequence", next_step="check how it was written")
    widths = {item.shape[1] for item in values}
    if len(widths) > 1:
        raise DataError(f"{path.name} has sequences of {sorted(widths)} channels", allowed="one")
    return Recordings(
        path=path,
        names=tuple(map(str, range(len(values)))),
        channels=tuple(f"channel {place}" for place in range(widths.pop())),
        values=tuple(values),
        labels=tuple(labels) if labelled else None,
        targets=("label",) if labelled else (),
    )


def _attributes(lines: list[str]) -> list[_Attribute]:
    """Return the columns; those inside of a relational one are not counted."""
    found: list[_Attribute] = []
    inside = False
    for line in lines:
        text = line.strip()
        if text.lower().startswith("@end"):
            inside = False
        match = _ATTRIBUTE.match(text)
        if match is None or inside:
            continue
        kind = match[2].strip()
        inside = kind.lower().startswith("relational")
        name = match[1].strip("'\"")
        found.append(_Attribute(name=name, nominal=kind.startswith("{"), relational=inside))
    return found


def _series(cells: list[str], where: str, *, relational: bool) -> NDArray[np.float64]:
    rows = [cells]
    if relational:
        text = cells[0].replace("\\n", "\n")
        rows = [line.split(",") for line in text.splitlines() if line.strip()]
    try:
        # Python reads 1_000 as a number, and nothing else does.
        made = [[float("nan" if cell.strip() == "?" else cell.replace("_", "?")) for cell in row]
                for row in rows]  # fmt: skip
        values = np.array(made, dtype=np.float64).T
    except ValueError as error:
        raise DataError(f"{where}: {error}", allowed="numbers, ? for a gap") from error
    known = np.flatnonzero(np.isfinite(values).any(1))
    if not len(known):
        raise DataError(f"{where} has no number", next_step="leave the line out")
    # Sequences of other lengths end in gaps.
    return np.asarray(values[: known[-1] + 1])
