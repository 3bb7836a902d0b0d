"""Two networks on the same rows: what they answer, and what a cut costs at each site."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float64
from torch import Tensor, nn

from ssmith.calibrate.flow import flows_of
from ssmith.calibrate.observe import Call, observe, valid_of
from ssmith.calibrate.sites import engaged
from ssmith.core.errors import ModelError, NumericalError
from ssmith.core.rows import Batch, Rows
from ssmith.core.running import evaluating
from ssmith.core.tokens import TokenWindows
from ssmith.evaluation.metrics import Outcomes
from ssmith.evaluation.predict import places_of, tensor_of
from ssmith.evaluation.task import Task, outcomes_of, targets_of
from ssmith.families import ssm_sites
from ssmith.watch.answers import Kind, kind_of, read_answers, read_difference, text_outcomes
from ssmith.watch.inputs import Readings
from ssmith.watch.removed import Removed, removed_energy

_ROWS_AT_ONCE, _WINDOWS_AT_ONCE = 64, 8
_TINY = 1e-300
_ROUNDED = 1e-9
"""Share of an energy that rounding alone can make of numbers with 24 bits."""
MEAN_COST = "cut/all sites/mean cost"
"""Reading: what the cut costs on a row, a mean over sites of the share of output lacking."""
Energy = Float64[Tensor, "b"]


@dataclass(frozen=True, kw_only=True)
class ModelPair:
    """A network in use, and what it was cut from, if that is at hand; no task without labels."""

    model: nn.Module
    dense: nn.Module | None = None
    removed: Mapping[str, Removed] = field(default_factory=dict)
    task: Task | None = None


@dataclass(frozen=True, kw_only=True)
class RowsSeen:
    """What two networks did on some rows, in the order of the rows.

    Args:
        readings: numbers per row, of the kinds ``output`` and ``cut``.
        sites: by site, mean energies per step (per row, where steps are not known): ``output`` of
            the network in use, ``dense`` of what it was cut from, ``lacking`` their difference; by
            place, ``removed`` and ``whole``.
        outcomes: by the task, (dense, in use); None without labels.
    """

    readings: Readings
    sites: dict[str, dict[str, float]]
    outcomes: tuple[Outcomes | None, Outcomes | None]

    @property
    def costs(self) -> dict[str, float]:
        """By site, the share of the dense output that the network in use lacks."""
        return {
            name: item["lacking"] / item["dense"] if item["dense"] > 0 else 0.0
            for name, item in self.sites.items()
            if "lacking" in item
        }

    @property
    def shares(self) -> dict[str, float]:
        """By place, the share of the dense output that what was removed carries."""
        return {
            name: item["removed"] / item["whole"] if item["whole"] > 0 else 0.0
            for name, item in self.sites.items()
            if "removed" in item
        }


def look_at(pair: ModelPair, rows: Rows, *, batch_size: int | None = None) -> RowsSeen:
    """Run a network and what it was cut from over rows; by default 64 a pass, of text 8.

    Raises `ModelError` if the networks do not return outputs of one shape, `NumericalError` if an
    output is not finite.
    """
    kind = kind_of(pair.model, rows, pair.task)
    size = batch_size or (_WINDOWS_AT_ONCE if isinstance(rows, TokenWindows) else _ROWS_AT_ONCE)
    models = [pair.model] if pair.dense is None else [pair.model, pair.dense]
    parts: list[_Part] = []
    with ExitStack() as stack:
        stack.enter_context(evaluating(*models))
        for model in models:
            stack.enter_context(engaged(model))
        for items in rows.ranges(size):
            parts.append(_look_at_batch(pair, rows, rows.batch(items), kind))
    places = places_of(rows, sum(part.count for part in parts))
    readings = {
        name: torch.cat([part.readings[name] for part in parts])[places].double().numpy()
        for name in parts[0].readings
    }
    for name in parts[0].energies:
        joined = {
            k: torch.cat([p.energies[name][k] for p in parts]) for k in parts[0].energies[name]
        }
        for value, share in _shares(joined).items():
            readings[f"cut/{name}/{value}"] = share[places].double().numpy()
    costs = [values for name, values in readings.items() if name.endswith("/cost")]
    if costs:
        readings[MEAN_COST] = np.mean(costs, axis=0)
    return RowsSeen(
        readings=readings,
        sites=_per_step(parts),
        outcomes=(
            _outcomes(pair, rows, parts, places, which=1),
            _outcomes(pair, rows, parts, places, which=0),
        ),
    )


@dataclass(frozen=True, kw_only=True)
class _Part:
    """What was seen of one batch."""

    count: int
    steps: float
    readings: dict[str, Tensor]
    energies: dict[str, dict[str, Energy]]
    outcomes: tuple[Outcomes | None, Outcomes | None]


def _look_at_batch(pair: ModelPair, rows: Rows, batch: Batch, kind: Kind) -> _Part:
    outputs, calls = _run(pair.model, rows, batch)
    readings = read_answers(kind, outputs, batch)
    dense: Tensor | None = None
    energies: dict[str, dict[str, Energy]] = {}
    if pair.dense is not None:
        dense, old = _run(pair.dense, rows, batch)
        if dense.shape != outputs.shape:
            raise ModelError(
                f"the dense model answers {tuple(dense.shape)}, the model {tuple(outputs.shape)}",
                allowed="two models of the same outputs",
            )
        readings |= read_difference(kind, outputs, dense, batch)
        energies = _energies(pair, batch, calls, old)
    else:
        energies = {
            name: {"output": sum_of(own, valid_of(batch.valid, name, own))}
            for name, own in calls.items()
            if own
        }
    lengths = getattr(batch.inputs, "lengths", None)
    steps = float(batch.count if lengths is None else lengths.sum())
    return _Part(
        count=batch.count, steps=steps, readings=readings, energies=energies,
        outcomes=(_scored(pair, kind, outputs, batch), _scored(pair, kind, dense, batch)),
    )  # fmt: skip


def _run(model: nn.Module, rows: Rows, batch: Batch) -> tuple[Tensor, dict[str, list[Call]]]:
    found: list[Tensor] = []
    modules = {name: site.module for name, site in ssm_sites(model).items()}
    calls = observe(
        lambda: found.append(tensor_of(rows.forward(model, batch)).cpu()), modules, outputs=True
    )
    if not bool(found[0].isfinite().all()):
        raise NumericalError(
            "the model's outputs on these rows are not finite",
            next_step="look for missing or extreme values in the data",
        )
    return found[0], calls


def sum_of(calls: Sequence[Call], masks: Sequence[Bool[Tensor, "b l"] | None]) -> Energy:
    """Return the energy of a site's outputs, by row."""
    return sum(
        (_row_energy(call.output, mask) for call, mask in zip(calls, masks, strict=True)),
        start=torch.zeros(1, dtype=torch.float64),
    )


def _row_energy(values: Tensor | None, mask: Bool[Tensor, "b l"] | None) -> Energy:
    assert values is not None
    energy = values.double().square().sum(-1)
    return (energy if mask is None else energy * mask).flatten(1).sum(1).cpu()


def _energies(
    pair: ModelPair, batch: Batch, calls: Mapping[str, list[Call]], old: Mapping[str, list[Call]]
) -> dict[str, dict[str, Energy]]:
    assert pair.dense is not None
    found: dict[str, dict[str, Energy]] = {}
    for name, dense in old.items():
        own = calls.get(name, [])
        if not dense or len(own) != len(dense):
            continue
        masks = valid_of(batch.valid, name, dense)
        found[name] = {"output": sum_of(own, masks), "dense": sum_of(dense, masks)}
        if all(a.output.shape == b.output.shape for a, b in zip(own, dense, strict=True)):  # type: ignore[union-attr]
            pairs = zip(own, dense, masks, strict=True)
            lacking = [_row_energy(b.output - a.output, mask) for a, b, mask in pairs]  # type: ignore[operator]
            found[name]["lacking"] = torch.stack(lacking).sum(0)
        if name in pair.removed:
            flows = [flow.sorted() for flow in flows_of(name, dense, batch.valid)]
            module = pair.dense.get_submodule(name)
            for flow in flows:
                each = removed_energy(
                    pair.removed[name], module, flow.given, flow.valid, flow.widths
                )
                for place, (gone, whole) in each.items():
                    where = found.setdefault(f"{name}.{place}" if place else name, {})
                    where["removed"] = where.get("removed", torch.zeros(1)) + gone
                    where["whole"] = where.get("whole", torch.zeros(1)) + whole
    return found


def _shares(energies: Mapping[str, Energy]) -> dict[str, Energy]:
    """Return what is watched of a site, as shares by row."""
    found = {}
    for name, part, whole in (("cost", "lacking", "dense"), ("removed", "removed", "whole")):
        if part in energies:
            share = energies[part] / energies[whole].clamp(min=_TINY)
            found[name] = torch.where(share > _ROUNDED, share, 0.0)
    return found


def _per_step(parts: Sequence[_Part]) -> dict[str, dict[str, float]]:
    steps = sum(part.steps for part in parts)
    return {
        name: {
            kind: float(sum(part.energies[name][kind].sum() for part in parts)) / steps
            for kind in kinds
        }
        for name, kinds in parts[0].energies.items()
    }


def _scored(pair: ModelPair, kind: Kind, outputs: Tensor | None, batch: Batch) -> Outcomes | None:
    if pair.task is None or outputs is None:
        return None
    if kind == "text":
        return text_outcomes(outputs.double().log_softmax(-1), batch)
    return None if pair.task.score is None else pair.task.of_outputs(outputs, targets_of(batch))


def _outcomes(
    pair: ModelPair, rows: Rows, parts: Sequence[_Part], places: Tensor, *, which: int
) -> Outcomes | None:
    model = pair.dense if which else pair.model
    if pair.task is None or model is None:
        return None
    found = [part.outcomes[which] for part in parts]
    whole = [item for item in found if item is not None]
    if len(whole) < len(found):
        return outcomes_of(pair.task, model, rows)
    weights = [item.weight for item in whole if item.weight is not None]
    return Outcomes(
        numerator=torch.cat([item.numerator for item in whole])[places],
        weight=torch.cat(weights)[places] if weights else None,
    )
