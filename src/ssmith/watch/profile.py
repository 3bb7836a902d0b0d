"""The profile of a model at release: what later looks are held against. It holds no row."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load as from_safetensors
from safetensors.torch import save as to_safetensors
from torch import nn

from ssmith.calibrate import measure_moments
from ssmith.core.checks import check_integer, check_number
from ssmith.core.errors import ArtefactError
from ssmith.core.files import read_json, to_json, write_bytes
from ssmith.core.looks import PassCost
from ssmith.core.plan import Plan
from ssmith.core.rows import Rows
from ssmith.core.seeds import permutation
from ssmith.core.settings import typed
from ssmith.evaluation.metrics import Metric
from ssmith.evaluation.task import Task
from ssmith.families import model_digest, modes_of
from ssmith.watch.costs import measure
from ssmith.watch.curve import CostCurve, Shifted, level_of
from ssmith.watch.inputs import InputRange, range_of, read_inputs
from ssmith.watch.inside import MEAN_COST, ModelPair, RowsSeen, look_at
from ssmith.watch.perturb import perturbed
from ssmith.watch.removed import Removed, refit_cost, removed_by
from ssmith.watch.sketch import Sketch, Values

VERSION = 2
_TWO_SIDED = 1.96
_DRAWN = ("at", "best", "draws")
_AGAIN = "take it again: ssmith watch LINE --take --data DATA"
FILE, TENSORS = "profile.json", "profile.safetensors"


@dataclass(frozen=True, kw_only=True)
class ProfileConfig:
    """How a profile is taken.

    Args:
        sample: most rows that are looked at, ≥ 20.
        speed_seconds: time to spend on timing, ≥ 0; 0 to leave it out.
        seed: of the draw of rows, of perturbations and of resampling.
        batch_size: rows per forward pass; 64 if None, of text 8.

    Raises:
        InputError: if a value is outside its domain.
    """

    sample: int = 512
    speed_seconds: float = 1.0
    seed: int = 0
    batch_size: int | None = None

    def __post_init__(self) -> None:
        check_integer("sample", self.sample, at_least=20)
        check_number("speed_seconds", self.speed_seconds, at_least=0)
        check_integer("seed", self.seed, at_least=0)
        if self.batch_size is not None:
            check_integer("batch_size", self.batch_size, at_least=1)


@dataclass(frozen=True, kw_only=True)
class Promise:
    """What the metric was at release.

    Args:
        metric: its name, or None where rows had no labels.
        value: of the model in use.
        level: its mean outcome before the metric's link.
        largest: largest outcome of a row, in size.
        worst: the same at the worse end of its interval.
        dense: mean outcome of the dense model; None without one.
    """

    metric: str | None = None
    value: float | None = None
    level: float | None = None
    largest: float | None = None
    worst: float | None = None
    dense: float | None = None


@dataclass(frozen=True, kw_only=True)
class Profile:
    """What a model and its rows were like at release.

    Args:
        model_digest: of the model's tensors.
        dense_digest: of what it was cut from; None if that was not at hand.
        rows: how many were looked at.
        data: what they were, as a receipt names them.
        inputs: ranges or counts of what they held.
        sketches: by reading, how its numbers were spread.
        sites: mean energies, see `inside.RowsSeen`.
        costs: by site, the share of the dense output that the model lacks.
        shares: by place, the share of the dense output that what was removed carried.
        refits: by site, the least share that a refit of what was kept could leave.
        left: what is not measured, with the reason.
        promise: the metric.
        speed: seconds and bytes.
        curve: loss against cost; None without labels or a dense model.
        settings: how it was taken.
    """

    model_digest: str
    dense_digest: str | None = None
    rows: int
    data: Mapping[str, Any]
    inputs: InputRange
    sketches: Mapping[str, Sketch]
    sites: Mapping[str, Mapping[str, float]]
    costs: Mapping[str, float]
    shares: Mapping[str, float]
    refits: Mapping[str, float]
    left: Mapping[str, str]
    promise: Promise
    speed: PassCost
    curve: CostCurve | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    def files(self) -> dict[str, bytes]:
        """Return the profile as files, tensors first; the JSON names their digest."""
        arrays: dict[str, Values] = {}
        for name, sketch in self.sketches.items():
            arrays |= {f"grid/{name}": sketch.grid, f"shares/{name}": sketch.shares}
        if self.curve is not None:
            arrays |= {f"curve/{name}": value for name, value in self.curve.tensors().items()}
        held = {k: torch.from_numpy(np.ascontiguousarray(v)) for k, v in arrays.items()}
        tensors = to_safetensors(held)
        kept = ("count", "mean", "std", "step")
        content = {
            **{item.name: getattr(self, item.name) for item in fields(self)},
            "inputs": asdict(self.inputs),
            "sketches": {
                name: {key: getattr(sketch, key) for key in kept}
                for name, sketch in self.sketches.items()
            },
            "promise": asdict(self.promise),
            "speed": self.speed.as_dict(),
            "curve": None if self.curve is None else self.curve.facts(),
            "version": VERSION,
            "tensors_sha256": hashlib.sha256(tensors).hexdigest(),
        }
        return {TENSORS: tensors, FILE: to_json(content).encode()}

    def save(self, directory: str | Path) -> None:
        """Write the profile: ``profile.json``, and its grids beside it as safetensors."""
        for name, content in self.files().items():
            write_bytes(Path(directory) / name, content)

    @classmethod
    def load(cls, directory: str | Path) -> Profile:
        """Read what `save` wrote.

        Raises `ArtefactError` if a file is missing, was changed, or is of another version.
        """
        place = Path(directory)
        content = read_json(place / FILE)
        if not isinstance(content, dict) or content.get("version") != VERSION:
            raise ArtefactError(
                f"{place / FILE} is no profile of this version", allowed=f"version {VERSION}",
                next_step=_AGAIN,
            )  # fmt: skip
        held = typed(_Held, content, where=str(place / FILE), next_step=_AGAIN)
        try:
            tensors = (place / TENSORS).read_bytes()
            if hashlib.sha256(tensors).hexdigest() != held.tensors_sha256:
                raise ValueError(f"{TENSORS} was changed")
            return cls._from(held, {k: v.numpy() for k, v in from_safetensors(tensors).items()})
        except (OSError, KeyError, ValueError) as error:
            raise ArtefactError(
                f"{place} holds no whole profile: {error}", next_step="restore it from a copy"
            ) from error

    @classmethod
    def _from(cls, held: _Held, arrays: Mapping[str, Values]) -> Profile:
        curve: Any = held.curve
        if curve is not None:
            drawn: dict[str, Any] = {name: arrays[f"curve/{name}"] for name in _DRAWN}
            curve = CostCurve(**drawn, **vars(curve))
        sketches = {
            name: Sketch(
                grid=arrays[f"grid/{name}"], shares=arrays[f"shares/{name}"], **vars(facts)
            )
            for name, facts in held.sketches.items()
        }
        plain = {item.name for item in fields(cls)} - {"sketches", "curve"}
        return cls(sketches=sketches, curve=curve, **{name: getattr(held, name) for name in plain})


@dataclass(frozen=True, kw_only=True)
class _SketchFacts:
    """`Sketch` in a file, its arrays aside."""

    count: int
    mean: float
    std: float
    step: float


@dataclass(frozen=True, kw_only=True)
class _CurveFacts:
    """`CostCurve` in a file, its arrays aside."""

    slack: float
    kinds: int
    pairs: int
    rows: int
    how: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class _Held:
    """`Profile` in a file, its arrays aside."""

    version: int
    tensors_sha256: str
    model_digest: str
    dense_digest: str | None
    rows: int
    data: dict[str, Any]
    inputs: InputRange
    sketches: dict[str, _SketchFacts]
    sites: dict[str, dict[str, float]]
    costs: dict[str, float]
    shares: dict[str, float]
    refits: dict[str, float]
    left: dict[str, str]
    promise: Promise
    speed: PassCost
    curve: _CurveFacts | None
    settings: dict[str, Any]


def take(
    model: nn.Module,
    rows: Rows,
    *,
    dense: nn.Module | None = None,
    plan: Plan | None = None,
    task: Task | None = None,
    config: ProfileConfig | None = None,
) -> Profile:
    """Take the profile of a model on rows that it has not learned from.

    Args:
        model: the model in use.
        rows: of the kind it will see; labelled, if there is a task.
        dense: what it was cut from; without it there is no cut drift.
        plan: by which it was cut.
        task: what good means; None for rows without labels.
        config: how it is taken.

    Returns:
        The profile.

    Raises:
        DataError: if there is no row.
        ModelError: if the two models do not answer alike.
        MissingExtraError: if SciPy is missing.
    """
    chosen = config or ProfileConfig()
    sample = sampled(rows, chosen.sample, chosen.seed)
    removed, left = removed_of(plan, dense)
    about = rows.describe()
    pair = ModelPair(model=model, dense=dense, removed=removed, task=task)
    seen = look_at(pair, sample, batch_size=chosen.batch_size)
    known = range_of(sample)
    readings = {**read_inputs(sample, known, own=True), **seen.readings}
    return Profile(
        model_digest=model_digest(model),
        dense_digest=None if dense is None else model_digest(dense),
        rows=len(next(iter(readings.values()))),
        data={"name": about.name, "sha256": about.sha256, "counts": about.counts},
        inputs=known,
        sketches={name: Sketch.of(values) for name, values in readings.items()},
        sites=seen.sites,
        costs=seen.costs,
        shares=seen.shares,
        refits=refits(pair, sample),
        left=left,
        promise=_promise(seen, None if task is None else task.metric),
        speed=measure(model, dense, sample, chosen.speed_seconds),
        curve=_curve(pair, sample, seen, chosen),
        settings=asdict(chosen),
    )  # fmt: skip


def sampled(rows: Rows, count: int, seed: int) -> Rows:
    """Return at most so many rows, drawn by the one permutation, in their order."""
    if len(rows) <= count:
        return rows
    return rows.take(permutation(len(rows), seed, "watch")[:count].sort().values)


def removed_of(
    plan: Plan | None, dense: nn.Module | None
) -> tuple[dict[str, Removed], dict[str, str]]:
    """Return what is measured of a cut, and what is not, with the reason."""
    if dense is None:
        return {}, {"cut": "what the model was cut from is not at hand"}
    if plan is None:
        return {}, {"cut": "the model has no plan that says what was removed"}
    return removed_by(plan, dense)


def refits(pair: ModelPair, rows: Rows) -> dict[str, float]:
    """Return by site of S5 or S4D what a refit of the kept states would leave at best."""
    cut = {name: item.state for name, item in pair.removed.items() if item.state is not None}
    if pair.dense is None or not cut:
        return {}
    try:
        layers = {modes.layer: modes for modes in modes_of(pair.dense)}
    except NotImplementedError:
        return {}
    names = [name for name in layers if name in cut]
    moments = measure_moments(pair.dense, rows, layers=names) if names else {}
    return {name: max(0.0, refit_cost(layers[name], moments[name], cut[name])) for name in names}


def _promise(seen: RowsSeen, metric: Metric | None) -> Promise:
    dense, own = seen.outcomes
    if metric is None or own is None:
        return Promise()
    ratios = own.numerator if own.weight is None else own.numerator / own.weight.clamp(min=1e-12)
    level = level_of(own)
    slack = _TWO_SIDED * float((ratios - level).square().mean().sqrt()) / len(own) ** 0.5
    return Promise(
        metric=metric.name, value=metric.value(own), level=level,
        largest=float(ratios.abs().max()),
        worst=level - slack if metric.higher_is_better else level + slack,
        dense=None if dense is None else level_of(dense),
    )  # fmt: skip


def _curve(pair: ModelPair, rows: Rows, seen: RowsSeen, config: ProfileConfig) -> CostCurve | None:
    if pair.task is None or pair.dense is None or MEAN_COST not in seen.readings:
        return None
    plain = ModelPair(model=pair.model, dense=pair.dense, task=pair.task)
    shifts = [Shifted(kind="", what="as they are", seen=seen)]
    for item in perturbed(rows, config.seed):
        changed = look_at(plain, item.rows, batch_size=config.batch_size)
        shifts.append(Shifted(kind=item.kind, what=item.what, seen=changed))
    return CostCurve.fit(shifts, pair.task.metric, config.seed)


def as_plain(profile: Profile) -> dict[str, Any]:
    """Return the JSON part of a profile, for people and pages."""
    return dict(json.loads(profile.files()[FILE]))
