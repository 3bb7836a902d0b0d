"""How recordings become the rows of a model: kept with the model, so that new data becomes equal.

Everything here is plain numbers and names; reading files is the work of `ssmith.recordings`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ssmith.core.checks import check_choice, check_integer, check_number
from ssmith.core.errors import DataError, InputError
from ssmith.core.names import meant
from ssmith.core.sequences import Task
from ssmith.core.settings import from_mapping, to_mapping

Purpose = Literal[
    "classification", "multi-label", "per-step", "regression", "forecasting", "anomaly"
]
"""What a model is for; several purposes share a kind of head (see `Preparation.model_task`)."""
Rule = Literal["last", "majority", "mean"]
SplitRule = Literal["file", "group", "time", "draw"]
FILE = "preparation.json"
"""Where a saved model keeps it."""
INTERVAL = "time since the step before"
"""Channel of how long each step lasted, the last one, as a multiple of the usual step."""
KNOWN = "known anomaly"
"""Column of rows: 1 where an anomaly is known, 0 where none is."""
FITTED_ON = "fitted_on"
"""Fact: digest of the tensors of the model whose outputs thresholds and residuals are of."""
_HEADS: dict[str, Task] = {
    "classification": "classification",
    "per-step": "classification",
    "regression": "regression",
    "multi-label": "multi-label",
    "forecasting": "regression",
    "anomaly": "regression",
}
_BEYOND = 0.5
"""Values this share of the range beyond its ends are out of range."""


@dataclass(frozen=True, kw_only=True)
class PrepareConfig:
    """How recordings become rows.

    Args:
        task: what is predicted; None: classification of words, regression of numbers.
        sequence: column that says which recording a step belongs to; the file is one if None.
        time: column of the time of each step: numbers, or times as 2026-01-31 12:00:00.
        label: columns of what is predicted; of a recording, or of each step.
        group: column of what must not be in two splits: a plant, a patient, a speaker.
        split: column that names the split: train, validation, selection or test.
        channels: columns that the model reads; all that are nothing else if empty.
        ignore: columns that are left out.
        step: time between steps after resampling, in seconds or units of ``time``.
        intervals: whether the model reads how long each step lasted, ``measured`` by ``time``: S5
            multiplies its Δ by it, other families have it as a channel; or takes steps as ``even``.
            None: measured where steps are uneven and ``step`` does not make them even.
        window: steps of a row, where recordings are cut; None: chosen from the data.
        stride: steps between the starts of rows; half a window if None.
        window_label: label of a row: that of its last step, the most frequent one, or of numbers
            the mean.
        horizon: steps ahead that are forecast, e.g. 1,6,24.
        score: what an anomaly is far from: its ``forecast`` by the steps before it, or its window's
            ``reconstruction`` from what the model keeps of it.
        truth: column that marks known anomalies, by 1 or a word, not by 0, no, false or normal;
            ``label`` of the task anomaly. No row with one is learned from, and scores are held
            against it.
        known: channels that are known ahead, as a calendar is: what they are at each horizon is
            read as well. Rows after the last one with any other value say it.
        missing: values that stand for a gap, e.g. -9999; empty cells are gaps as well.
        gaps: a gap takes the last value before it, or the file is refused.
        scale: each channel to mean 0 and variance 1 by the training rows, or not at all.
        by: how rows are split: by ``group``, by ``time``, by a stratified ``draw``, or as the
            ``file`` says; None: the first of file, group, time that the data allows.
        features: of sound: energies in ``bands`` of 40 frequencies every 10 ms, or the ``wave``.
        rate: of sound, in samples per second; the lowest of all files if None.
        pixels: of an image: a step for each ``row``, each ``pixel``, or each ``patch``.
        patch: side of a patch in pixels.
        seed: of the split; it belongs to the data.

    Raises:
        InputError: if a setting is out of its domain, or a column has two roles.
    """

    task: Purpose | None = None
    sequence: str | None = None
    time: str | None = None
    label: tuple[str, ...] = ()
    group: str | None = None
    split: str | None = None
    channels: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    step: float | None = None
    intervals: Literal["even", "measured"] | None = None
    window: int | None = None
    stride: int | None = None
    window_label: Rule = "last"
    horizon: tuple[int, ...] = (1,)
    score: Literal["forecast", "reconstruction"] = "forecast"
    truth: str | None = None
    known: tuple[str, ...] = ()
    missing: tuple[float, ...] = ()
    gaps: Literal["hold", "refuse"] = "hold"
    scale: Literal["standard", "none"] = "standard"
    by: SplitRule | None = None
    features: Literal["bands", "wave"] = "bands"
    rate: int | None = None
    pixels: Literal["row", "pixel", "patch"] = "row"
    patch: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        if self.task is not None:
            check_choice("task", self.task, get_args(Purpose))
        check_choice("window_label", self.window_label, get_args(Rule))
        check_choice("gaps", self.gaps, ("hold", "refuse"))
        check_choice("scale", self.scale, ("standard", "none"))
        check_choice("features", self.features, ("bands", "wave"))
        check_choice("pixels", self.pixels, ("row", "pixel", "patch"))
        if self.window_label == "mean" and self.task not in (None, "regression"):
            raise InputError(f"window_label is mean for {self.task}", allowed="last, majority")
        if self.intervals is not None:
            check_choice("intervals", self.intervals, ("even", "measured"))
        if self.intervals == "measured" and self.time is None:
            raise InputError("intervals are measured without a time", next_step="name it: --time")
        if self.intervals == "measured" and self.step is not None:
            raise InputError("intervals are measured, and step makes them even", allowed="one")
        if self.by is not None:
            check_choice("by", self.by, get_args(SplitRule))
        for name in ("window", "stride", "rate"):
            if getattr(self, name) is not None:
                check_integer(name, getattr(self, name), at_least=1)
        check_integer("patch", self.patch, at_least=1)
        check_integer("seed", self.seed, at_least=0)
        if self.step is not None:
            check_number("step", self.step, above=0)
        for ahead in self.horizon:
            check_integer("horizon", ahead, at_least=1)
        if self.known and self.task not in (None, "forecasting"):
            raise InputError(
                f"known is {', '.join(self.known)} for {self.task}", allowed="forecasting"
            )
        if not self.horizon:
            raise InputError("horizon is empty", allowed="steps ahead, e.g. 1,6,24")
        self._check_score()
        self._check_roles()

    def _check_score(self) -> None:
        check_choice("score", self.score, ("forecast", "reconstruction"))
        for name in ("truth", "score"):
            if getattr(self, name) not in (None, "forecast") and self.task not in (None, "anomaly"):
                raise InputError(f"{name} is given for {self.task}", allowed="task anomaly")
        if self.reconstructs and self.horizon != (1,):
            raise InputError(
                f"horizon is {', '.join(map(str, self.horizon))} of a reconstruction",
                allowed="a score of forecasts", next_step="leave --horizon out",
            )  # fmt: skip

    def _check_roles(self) -> None:
        single = (self.sequence, self.time, self.group, self.split, self.truth)
        roles = [name for name in single if name is not None]
        # A group may be a recording, and a target of a forecast is a channel as well.
        roles = [*dict.fromkeys(roles), *self.ignore]
        if self.task not in ("forecasting", "anomaly"):
            roles += self.label
        roles += [name for name in self.channels if name not in self.label]
        twice = sorted({name for name in roles if roles.count(name) > 1})
        if twice:
            raise InputError(f"column {twice[0]!r} has two roles", allowed="one")

    @property
    def reconstructs(self) -> bool:
        """Whether a row's targets are its own steps."""
        return self.score == "reconstruction"

    @property
    def offsets(self) -> tuple[int, ...]:
        """Steps from the last one of a row to those that it predicts."""
        return tuple(range(1 - (self.window or 1), 1)) if self.reconstructs else self.horizon

    @property
    def labels(self) -> tuple[str, ...]:
        """Columns of what is not among the channels and is known of rows."""
        if self.task in ("forecasting", "anomaly"):
            return () if self.truth is None else (self.truth,)
        return self.label

    def ahead_names(self) -> tuple[str, ...]:
        """Return the channels of what is known ahead, horizon by horizon: ``price +6``."""
        return tuple(f"{name} +{ahead}" for ahead in self.horizon for name in self.known)

    def plain_columns(self) -> tuple[str, ...]:
        """Return the columns that are no channels and no labels."""
        single = (self.sequence, self.time, self.group, self.split, self.truth)
        return (*dict.fromkeys(name for name in single if name is not None), *self.ignore)


@dataclass(frozen=True, kw_only=True)
class Scaled:
    """A column of numbers, and how it is scaled: (value − mean) / std.

    Args:
        name: of the column.
        unit: it is measured in; empty if not known.
        mean: over the training rows, or 0.
        std: over the training rows, or 1; of a constant column 1.
        low: smallest value seen in the training rows.
        high: largest one.
    """

    name: str
    unit: str = ""
    mean: float = 0.0
    std: float = 1.0
    low: float
    high: float

    def __post_init__(self) -> None:
        for name in ("mean", "low", "high"):
            check_number(f"{name} of {self.name}", getattr(self, name))
        check_number(f"std of {self.name}", self.std, above=0)

    def is_beyond(self, values: NDArray[Any]) -> NDArray[np.bool_]:
        """Return which values lie far outside what training saw: half its range or more."""
        reach = _BEYOND * (self.high - self.low) or 1e-6 * max(1.0, abs(self.high))
        return (values < self.low - reach) | (values > self.high + reach)


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """How the rows of a model were made, and how new ones are made.

    Args:
        config: the settings, with the window and the task as they were chosen.
        channels: what the model reads, in its order.
        targets: of regression and forecasts, what it predicts.
        classes: names in the order of its outputs.
        thresholds: probability from which a class is given, by class; the likeliest where empty.
        residuals: half width of an interval that covers a share of new rows, for each output, by
            that share ("0.9"); in the targets' own units.
        facts: how well and on what it was fitted, JSON-ready.
    """

    config: PrepareConfig
    channels: tuple[Scaled, ...]
    targets: tuple[Scaled, ...] = ()
    classes: tuple[str, ...] = ()
    thresholds: Mapping[str, float] = field(default_factory=dict)
    residuals: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def task(self) -> Purpose:
        """What the model is for."""
        return self.config.task or "classification"

    @property
    def model_task(self) -> Task:
        """What kind of head the model has."""
        return _HEADS[self.task]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the channels, in the model's order."""
        return tuple(item.name for item in self.channels)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the channels that recordings have, which others are made of."""
        made = (INTERVAL, *self.config.ahead_names())
        return tuple(name for name in self.names if name not in made)

    def places(self, columns: Sequence[str], where: str, *, made: bool = False) -> list[int]:
        """Return where each channel stands among columns of ``where``, matched by name.

        ``made``: channels that are made of others are made later. How long steps lasted has no
        place. Raises `DataError` if a channel is missing.
        """
        wanted = self.columns if made else [name for name in self.names if name != INTERVAL]
        lacks = [name for name in wanted if name not in columns]
        if lacks:
            raise DataError(
                f"{where} lacks {_listed(lacks)} that the model reads; it has {_listed(columns)}",
                allowed=f"{_listed(self.names)}, in any order",
                next_step=meant(lacks[0], columns) or "rename or add the columns",
            )
        return [list(columns).index(name) for name in wanted]

    def scaled(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """Return values of the channels, in the model's order on the last axis, as it reads them.

        A gap (NaN) stays one; a step that has none before it is as long as usual.
        """
        found = _scaled(values, self.channels)
        if self.channels and self.channels[-1].name == INTERVAL:
            last = found[..., -1]
            last[np.isnan(last)] = 1
        return found

    def targets_back(self, outputs: NDArray[Any]) -> NDArray[np.float64]:
        """Return predictions, one output on the last axis each, in the targets' own units."""
        mean, std = (np.array([getattr(item, name) for item in self.targets])
                     for name in ("mean", "std"))  # fmt: skip
        return np.asarray(np.asarray(outputs, dtype=np.float64) * std + mean)

    def targets_scaled(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """Return targets as the model learns them."""
        return _scaled(values, self.targets)

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dict; `from_dict` reads it back."""
        return {"format": "ssmith-preparation", "version": 1, **to_mapping(self)}

    @classmethod
    def from_dict(cls, content: Any, where: str) -> Preparation:
        """Read what `as_dict` returned; raises `InputError` if it is something else."""
        known = isinstance(content, dict) and content.get("format") == "ssmith-preparation"
        if not known or content.get("version") != 1:
            raise InputError(f"{where} is no preparation of this version", allowed="version 1")
        inner = {key: value for key, value in content.items() if key not in ("format", "version")}
        made = from_mapping(cls, inner, where=where)
        if not made.channels:
            raise InputError(f"{where} has no channel", allowed="what the model reads, one or more")
        return made


def _scaled(values: NDArray[Any], columns: Sequence[Scaled]) -> NDArray[np.float32]:
    mean, std = (np.array([getattr(item, name) for item in columns]) for name in ("mean", "std"))
    return np.asarray((np.asarray(values, dtype=np.float64) - mean) / std, dtype=np.float32)


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:20])
    return f"{shown}, … ({len(names)} in all)" if len(names) > 20 else shown or "none"
