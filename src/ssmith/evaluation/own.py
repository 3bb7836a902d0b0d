"""The user's own metric: a Python function over the whole test set."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ssmith.core.checks import check_flag
from ssmith.core.errors import DataError, InputError, SsmithError
from ssmith.core.rows import Rows
from ssmith.core.sections import Measured, OwnQuality
from ssmith.core.sequences import Sequences
from ssmith.evaluation.intervals import check_level, quantile, resample
from ssmith.evaluation.measures import Measure
from ssmith.evaluation.predict import predict
from ssmith.families import preparation_of

_SIGNATURE = "a function (outputs: np.ndarray, y: np.ndarray) -> float"
_MAY_BE_UNDEFINED = 0.1


@dataclass(frozen=True, kw_only=True)
class OwnMetric:
    """A metric a user wrote, by the text it was found by.

    Outputs (n, o) and targets (n, ...) as NumPy arrays make one number.
    """

    name: str
    function: Callable[[Any, Any], Any]
    higher_is_better: bool

    def __call__(self, outputs: Tensor, y: Tensor) -> float:
        """Apply the function to copies of the data.

        One row of outputs per sequence. A function that fails, or returns no finite number, is
        refused.
        """
        # A private copy, so that a function that sorts in place cannot change the data.
        arrays = [item.detach().cpu().numpy().copy() for item in (outputs, y)]
        try:
            result = self.function(*arrays)
        except Exception as error:
            raise InputError(
                f"own metric {self.name!r} failed: {type(error).__name__}: {error}",
                allowed=_SIGNATURE,
                next_step=f"call it on outputs {arrays[0].shape} and y {arrays[1].shape}",
            ) from error
        if isinstance(result, np.generic) or (isinstance(result, np.ndarray) and not result.ndim):
            result = result.item()
        if not isinstance(result, int | float) or isinstance(result, bool):
            raise InputError(
                f"own metric {self.name!r} returned {type(result).__name__}", allowed=_SIGNATURE
            )
        if not math.isfinite(result):
            raise InputError(
                f"own metric {self.name!r} returned {float(result)}", allowed="a finite number"
            )
        return float(result)

    @property
    def said(self) -> str:
        """Its name and direction."""
        return f"{self.name}, {'higher' if self.higher_is_better else 'lower'} is better"

    def score(self, value: float) -> float:
        """Return a value as one that is better the larger it is."""
        return value if self.higher_is_better else -value

    def loss(self, before: float, after: float) -> float:
        """Return how much worse a value is (negative: better)."""
        return before - after if self.higher_is_better else after - before


@dataclass(frozen=True, kw_only=True)
class OwnMetricConfig:
    """What the user measures besides.

    Args:
        own_metric: the user's own metric, ``"module:function"`` or ``"file.py:function"``.
        own_lower_is_better: direction of the own metric.
    """

    own_metric: str | None = None
    own_lower_is_better: bool = False

    def __post_init__(self) -> None:
        check_flag("own_lower_is_better", self.own_lower_is_better)
        if self.own_lower_is_better and self.own_metric is None:
            raise InputError(
                "own_lower_is_better without own_metric",
                next_step="name the metric, or leave its direction out",
            )

    def own(self) -> OwnMetric | None:
        """Return the user's own metric, if there is one; its code is imported."""
        if self.own_metric is None:
            return None
        return own_metric(self.own_metric, higher_is_better=not self.own_lower_is_better)

    def check_own(self, *, answers: bool) -> None:
        """Refuse an own metric where nothing answers for whole rows."""
        if self.own_metric is not None and not answers:
            raise InputError(
                "own_metric is for models of classes or numbers", next_step="leave it out"
            )

    def own_facts(self) -> dict[str, str]:
        """Return what a result depends on: a file's content by its digest, a module by its name."""
        if self.own_metric is None:
            return {}
        path = Path(self.own_metric.rpartition(":")[0])
        content = path.read_bytes() if path.is_file() else b""
        return {"own_metric": self.own_metric, "code": hashlib.sha256(content).hexdigest()}


def answers_of_own(model: nn.Module, rows: Rows, batch_size: int = 64) -> tuple[Tensor, Tensor]:
    """Return outputs and targets as an own metric gets them: quantities in their own units."""
    if not isinstance(rows, Sequences):
        raise InputError("own_metric reads sequences", next_step="leave it out")
    return in_own_units(model, predict(model, rows, batch_size), rows.y)


def in_own_units(model: nn.Module, outputs: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return what a model answers and should have answered, unscaled where they are quantities."""
    preparation = preparation_of(model)
    if preparation is None or not preparation.targets:
        return outputs, y
    said, truth = (
        torch.from_numpy(preparation.targets_back(item.reshape(len(item), -1).cpu().numpy()))
        for item in (outputs, y)
    )
    return said, truth.reshape(y.shape)


def measured_own(metric: OwnMetric, outputs: Tensor, y: Tensor) -> Measure:
    """Return an own metric, beside what it makes of the same answer to all rows."""
    same, answer = outputs.mean(0).expand_as(outputs), "the mean of all answers always"
    if not y.is_floating_point():
        usual = y.bincount(minlength=outputs.shape[1]).argmax()
        same = functional.one_hot(usual, outputs.shape[1]).to(outputs).expand_as(outputs)
        answer = "the most frequent class always"
    try:
        naive = metric(same, y)
    except InputError:
        # A metric may have no value where all answers are the same, as a correlation has not.
        naive = None
    return Measure(
        name=metric.name,
        value=metric(outputs, y),
        naive=naive,
        answer=answer,
        higher_is_better=metric.higher_is_better,
    )


def own_metric(text: str, *, higher_is_better: bool = True) -> OwnMetric:
    """Find a user's metric. The file or module is imported, so its code runs.

    The text is ``"package.module:function"`` or ``"path/to/file.py:function"``.
    """
    place, _, name = text.rpartition(":")
    if not place or not name:
        raise InputError(
            f"own metric {text!r}",
            allowed="'package.module:function' or 'path/to/file.py:function'",
        )
    module = _from_file(Path(place)) if place.endswith(".py") else _from_package(place)
    function = getattr(module, name, None)
    if not callable(function):
        names = [key for key, item in vars(module).items() if callable(item) and key[0] != "_"]
        raise InputError(
            f"{place} has no function {name!r}", allowed=", ".join(sorted(names)) or _SIGNATURE
        )
    return OwnMetric(name=text, function=function, higher_is_better=higher_is_better)


def _failed(place: str, error: BaseException) -> InputError:
    return InputError(
        f"own metric: cannot import {place}: {type(error).__name__}: {error}",
        next_step="run it with Python, or give the path of a .py file",
    )


def _from_package(place: str) -> ModuleType:
    try:
        return importlib.import_module(place)
    except (Exception, SystemExit) as error:
        raise _failed(place, error) from error


def _from_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise InputError(f"own metric: no file {path}", next_step="check the path")
    # The name carries the path, so that two files of one name do not meet.
    digest = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]
    name = f"_own_metric_{path.stem}_{digest}"
    specification = importlib.util.spec_from_file_location(name, path)
    if specification is None or specification.loader is None:
        raise InputError(f"own metric: {path} is not a Python file")
    module = importlib.util.module_from_spec(specification)
    # Dataclasses of the file look their module up while they are built.
    sys.modules[name] = module
    try:
        specification.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise _failed(str(path), error) from error
    return module


@dataclass(frozen=True, kw_only=True)
class OwnComparison:
    """The user's own metric before and after, on the same sequences, and their difference's ends.

    They are None where they could not be computed; ``interval`` says how they were, or why not.
    """

    metric: OwnMetric
    before: float
    after: float
    low: float | None
    high: float | None
    level: float
    interval: str

    @property
    def loss(self) -> float:
        """How much worse the second model is (negative: better)."""
        return self.metric.loss(self.before, self.after)

    def section(self) -> OwnQuality:
        """Return the ``own`` part of the quality section of a receipt."""
        gap = self.after - self.before
        return OwnQuality(
            name=self.metric.name,
            higher_is_better=self.metric.higher_is_better,
            before=self.before,
            after=self.after,
            difference=Measured(value=gap, low=self.low, high=self.high, interval=self.interval),
            level=self.level,
        )


def compare_own(
    metric: OwnMetric,
    before: Tensor,
    after: Tensor,
    y: Tensor,
    *,
    seed: int,
    level: float = 0.95,
    resamples: int = 1000,
) -> OwnComparison:
    """Compare two models by a user's metric, with a paired bootstrap over sequences.

    A resample on which the metric is undefined (an error, NaN) is left out and counted; if more
    than a tenth are, there is no interval, and the reason stands in its place.

    The metric is called 2 + 2 · resamples times.
    """
    check_level(level)
    if not len(before) == len(after) == len(y) or not len(y):
        raise DataError(
            f"{len(before)} and {len(after)} outputs for {len(y)} targets",
            allowed="the same sequences, at least one",
        )
    values = metric(before, y), metric(after, y)
    draws: list[float] = []
    for block in resample(len(y), seed=seed, resamples=resamples):
        draws += [
            value
            for index in block
            if (value := _draw(metric, before, after, y, index)) is not None
        ]
    missing = resamples - len(draws)
    low = high = None
    if missing > _MAY_BE_UNDEFINED * resamples:
        interval = f"none: the metric is undefined on {missing} of {resamples} resamples"
    else:
        ordered = torch.tensor(draws, dtype=torch.float64)
        low, high = (quantile(ordered, (1 + side * level) / 2) for side in (-1, 1))
        interval = f"paired bootstrap, {resamples} resamples"
        interval += f", {missing} of them undefined" if missing else ""
    return OwnComparison(
        metric=metric,
        before=values[0],
        after=values[1],
        low=low,
        high=high,
        level=level,
        interval=interval,
    )


def _draw(
    metric: OwnMetric, before: Tensor, after: Tensor, y: Tensor, index: Tensor
) -> float | None:
    """Return after − before on one resample, or None where the metric is undefined."""
    try:
        return metric(after[index], y[index]) - metric(before[index], y[index])
    except SsmithError:
        return None
