"""Named data sets that come with other packages, or are generated here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ssmith.core.names import unknown_name
from ssmith.core.optional import require
from ssmith.core.sequences import SequenceData, Task
from ssmith.data.assemble import assemble, standardise
from ssmith.data.labels import encode_labels, real_targets
from ssmith.data.listops import ListOps, generate_listops
from ssmith.data.pool import Pool, pad_series
from ssmith.data.splitting import draw_splits, drop_duplicates
from ssmith.data.ts_file import read_ts

PREFIX = "embedded:"
# The splits of a fixed data set never move, so results of all training seeds share one test set.
SPLIT_SEED = 0


@dataclass(frozen=True, kw_only=True)
class _Archive:
    """A data set in the archive format that sktime ships.

    Args:
        folder: its name there.
        task: what is predicted.
        about: what it is, in words.
        wide_range: the scales of its series lie orders of magnitude apart (see `_shape_and_level`).
    """

    folder: str
    task: Task
    about: str
    wide_range: bool = False


_ARCHIVES = {
    "vowels": _Archive(
        folder="JapaneseVowels", task="classification", about="nine speakers, cepstra of a vowel"
    ),
    "plaid": _Archive(
        folder="PLAID",
        task="classification",
        about="eleven kinds of appliance, electric current",
        wide_range=True,
    ),
    "leaf": _Archive(folder="OSULeaf", task="classification", about="six leaves, outline"),
    "power": _Archive(
        folder="ItalyPowerDemand", task="classification", about="power of a day, winter or summer"
    ),
    "tecator": _Archive(
        folder="Tecator", task="regression", about="fat in meat from its absorbance spectrum"
    ),
    "covid": _Archive(
        folder="Covid3Month", task="regression", about="death rate from daily cases of a country"
    ),
}

TASKS: tuple[str, ...] = (
    "digits",
    "vowels",
    "plaid",
    "leaf",
    "power",
    "listops",
    "tecator",
    "covid",
)


def about(name: str) -> str:
    """Return what a named data set is, in a few words (``name`` is one of `TASKS`)."""
    if name in _ARCHIVES:
        return f"{_ARCHIVES[name].about} ({_ARCHIVES[name].task})"
    return {
        "digits": "handwritten digits, pixels row by row (classification)",
        "listops": "nested operations on lists of digits, generated (classification)",
    }[name]


def load_embedded(name: str, *, seed: int) -> SequenceData:
    """Load a named data set, split and scaled.

    Args:
        name: one of `TASKS`.
        seed: seed of the generation of ``listops``; the other sets are fixed and ignore it.

    Returns:
        The data set with all four splits.

    Raises:
        InputError: if the name is unknown.
        MissingExtraError: if the package that holds the set is not installed.
    """
    if name == "listops":
        return assemble(generate_listops(ListOps(), seed=seed))
    if name == "digits":
        return assemble(_split(_digits()))
    if name in _ARCHIVES:
        return assemble(standardise(_split(_archive(name, _ARCHIVES[name]))))
    raise unknown_name(f"there is no data set {PREFIX}{name}", name, TASKS, prefix=PREFIX)


def _split(pool: Pool) -> Pool:
    return draw_splits(drop_duplicates(pool), seed=SPLIT_SEED)


def _digits() -> Pool:
    datasets = require("sklearn.datasets", extra="data", purpose="embedded:digits")
    package = require("sklearn", extra="data", purpose="embedded:digits")
    digits = datasets.load_digits()
    x = torch.from_numpy(digits.data).to(torch.float32)[..., None] / 16
    targets = encode_labels(digits.target.tolist(), classes=None, where="digits")
    return Pool(
        name="digits",
        source=f"scikit-learn {package.__version__}: handwritten digits, pixels row by row",
        task=targets.task,
        x=x,
        lengths=torch.full((len(x),), x.shape[1]),
        y=targets.y,
        classes=targets.classes,
        details={"scaling": {"by": "pixel / 16"}},
    )


def _archive(name: str, archive: _Archive) -> Pool:
    package = require("sktime", extra="data", purpose=PREFIX + name)
    folder = Path(str(package.__file__)).parent / "datasets" / "data" / archive.folder
    series, labels = read_ts(folder / f"{archive.folder}_TRAIN.ts")
    more_series, more_labels = read_ts(folder / f"{archive.folder}_TEST.ts")
    series, labels = series + more_series, labels + more_labels
    if archive.wide_range:
        series = [_shape_and_level(one) for one in series]
    if archive.task == "classification":
        targets = encode_labels(labels, classes=None, where=name)
    else:
        numbers = torch.tensor([float(label) for label in labels])
        targets = real_targets(numbers, task=archive.task, where=name)
    return Pool(
        name=name,
        source=f"sktime {package.__version__}: {archive.folder}; {archive.about}",
        task=targets.task,
        x=pad_series(series),
        lengths=torch.tensor([len(one) for one in series]),
        y=targets.y,
        classes=targets.classes,
        details={
            "pooled": "the archive's train and test files, then split anew",
            "channels": "shape and level of each series" if archive.wide_range else "as stored",
        },
    )


def _shape_and_level(series: Tensor) -> Tensor:
    """Split a univariate series into its standardised shape and the logarithm of its scale.

    Where scales span many orders of magnitude, one common scale would leave most series as a
    flat line. Both channels need the whole series, so this is no preparation for streaming.
    """
    wide = series.to(torch.float64)
    scale = wide.std(dim=0, correction=0).clamp(min=1e-12)
    shape = (wide - wide.mean(dim=0)) / scale
    return torch.cat([shape, scale.log10().expand_as(wide)], dim=1).to(series.dtype)
