"""Scores of units that one linear layer alone reads: heads, channels of heads, neurons, attention.

Removing a unit takes its columns R out of the output map W. With S the second moment of what the
map is given, the least that costs the output, after the columns that stay have made up for it, is
``tr(W_R ((S⁻¹)_RR)⁻¹ W_Rᵀ)``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

RIDGE = 1e-3
"""Of the mean second moment of what the output map is given."""
HELD = "share of the fit"
"""What a stage calls the share of a fitted change that is made (see `share_that_holds`)."""
_TURNS = 128
"""At most so many times costs are computed anew."""


@dataclass(frozen=True, kw_only=True)
class OutputUnits:
    """Units that one output map reads, and what it is given.

    Args:
        gram: sum of f fᵀ over the steps, f being what the map is given.
        weight: of the map.
        columns: of each unit.
        parts: equal parts of the units, each of which loses as many.
        removed: that many.
        activity: sum over rows of the square of each channel's mean size, where it is asked for:
            of what in_proj gives a Mamba-2 mixer's channels, or of what the map is given.
    """

    gram: Float64[Tensor, "e e"]
    weight: Float64[Tensor, "m e"]
    columns: Int64[Tensor, "u w"]
    parts: int
    removed: int
    activity: Float64[Tensor, "e"] | None = None


@dataclass(frozen=True, kw_only=True)
class OutputCriterion(ABC):
    """Says how much each unit matters that one output map reads.

    ``semantics`` and ``refits`` are those of criteria for groups; ``by_activity`` says whether it
    reads the units' activity.
    """

    label: ClassVar[str]
    semantics: ClassVar[str] = "remove"
    refits: ClassVar[bool] = False
    by_activity: ClassVar[bool] = False

    @abstractmethod
    def scores(self, units: OutputUnits) -> Float64[Tensor, "u"]:
        """Return a score of every unit; the smallest of each part go."""


@dataclass(frozen=True, kw_only=True)
class ColumnEnergy(OutputCriterion):
    """Energy that each unit alone gives to the output, column by column: ``E[f²] ‖W‖²``.

    Source: Wanda's score (arXiv 2306.11695), squared and summed over the columns of a unit.
    """

    label: ClassVar[str] = "Energy at the output"

    def scores(self, units: OutputUnits) -> Float64[Tensor, "u"]:
        energy = units.gram.diagonal() * units.weight.square().sum(0)
        return energy[units.columns].sum(-1)


@dataclass(frozen=True, kw_only=True)
class Minitron(OutputCriterion):
    """Size of activations: ``√Σ_rows (mean_t |x|)²``, of several channels their root of squares.

    Channels of heads are the same ones in every head, as one score stands for all heads.

    Source: Minitron (arXiv 2407.14679) for neurons and attention, Minitron-SSM (arXiv 2504.11409)
        for heads and their channels: x is what ``in_proj`` gives, before the convolution.
    """

    label: ClassVar[str] = "Minitron"
    by_activity: ClassVar[bool] = True

    def scores(self, units: OutputUnits) -> Float64[Tensor, "u"]:
        assert units.activity is not None
        own = units.activity[units.columns].sum(-1)
        if units.columns.shape[1] == 1:
            own = own.view(units.parts, -1).sum(0).repeat(units.parts)
        return own.sqrt()


@dataclass(frozen=True, kw_only=True)
class ColumnOBS(OutputCriterion):
    """Greedy removal by what the output loses after the columns that stay have made up for it.

    Of the units whose part may lose more, those that cost least go, a 128th of all at a time; then
    W and S⁻¹ are what they are without them.

    Source: Optimal Brain Surgeon (Hassibi and Stork, 1993) on coupled columns, as in ZipLM (arXiv
        2302.04089).
    Differs: parts that must stay equal have quotas; which channels go is each head's own matter.
    """

    label: ClassVar[str] = "OBS on the output map"
    refits: ClassVar[bool] = True

    def scores(self, units: OutputUnits) -> Float64[Tensor, "u"]:
        columns, parts, removed = units.columns, units.parts, units.removed
        rest, inverse = units.weight.clone(), torch.linalg.inv(with_ridge(units.gram))
        gone = torch.zeros(parts, len(columns) // parts, dtype=torch.bool, device=rest.device)
        place = torch.zeros(len(columns), dtype=torch.float64, device=rest.device)
        most = -(-removed * parts // _TURNS)
        for turn in range(removed * parts):
            left = removed - gone.sum(1)
            if not int(left.sum()):
                break
            costs = _costs(rest, inverse, columns).view_as(gone)
            free = ~gone & _cheapest(costs.masked_fill(gone, torch.inf), left)
            ranked = costs.masked_fill(~free, torch.inf).flatten().argsort(stable=True)
            now = ranked[: min(most, int(left.sum()))]
            gone.view(-1)[now], place[now] = True, float(turn)
            _remove_(rest, inverse, columns[now].flatten())
        costs = _costs(rest, inverse, columns)
        stays = ~gone.flatten()
        order = costs.masked_fill(~stays, -1.0).argsort(stable=True).argsort(stable=True)
        return torch.where(stays, removed * parts + order.double(), place)


def with_ridge(gram: Float64[Tensor, "e e"]) -> Float64[Tensor, "e e"]:
    """Return a Gram with a small multiple of its mean on the diagonal; ones where all is zero."""
    mean = float(gram.diagonal().mean())
    eye = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    return gram + (RIDGE * mean if mean else 1.0) * eye


def best_change(
    gram: Float64[Tensor, "e e"], lacking: Float64[Tensor, "m e"]
) -> Float64[Tensor, "m e"]:
    """Return the change of an output map that gives most of what is lacking."""
    return _solved(with_ridge(gram), lacking)


def _solved(
    gram: Float64[Tensor, "e e"], lacking: Float64[Tensor, "m e"]
) -> Float64[Tensor, "m e"]:
    """Return the change that gives most of what is lacking; the Gram has its ridge."""
    change: Tensor = torch.linalg.solve(gram, lacking.mT).mT
    return change


def share_that_holds(
    halves: Sequence[tuple[Float64[Tensor, "e e"], Float64[Tensor, "m e"]]],
    fit: Callable[[Tensor, Tensor], Tensor] = best_change,
) -> float:
    """Return the share of a change fitted to all data that is to be made: 1 without halves.

    Each of the two halves of the data, Gram and what is lacking, is judged on the other. With g
    what their changes give of what is lacking there, ``s = tr Δ G Δᵀ`` what they do there in all,
    s − g is what they owe to chance. Of the change fitted to all data, twice as many, half of that
    is chance, and ``g / (g + (s − g) / 2)`` of it errs least on data of the kind. 0 if nothing
    holds.

    Source: least squares; the shrinkage that errs least, as of James and Stein, estimated by
        cross-fitting two halves.
    """
    if not halves:
        return 1.0
    given = done = 0.0
    for (gram, lacking), own in zip(halves, reversed(halves), strict=True):
        change = fit(*own)
        given += float((change * lacking).sum())
        done += float(((change @ gram) * change).sum())
    return min(1.0, 2 * given / (given + done)) if given > 0 else 0.0


def made_up(
    gram: Float64[Tensor, "e e"],
    weight: Float64[Tensor, "m e"],
    stays: Bool[Tensor, "e"],
    halves: Sequence[Float64[Tensor, "e e"]] = (),
) -> tuple[Float64[Tensor, "m e"], float]:
    """Return the output map whose columns that stay make up best for the others, which are zero.

    ``W_K + W_R S_RK S_KK⁻¹``, or the share of the change that holds where the Grams of two halves
    of the data are given, and that share. What stays is not shrunk where nothing goes.
    """

    def parts(of: Tensor) -> tuple[Tensor, Tensor]:
        full = with_ridge(of)
        return full[stays][:, stays], weight[:, ~stays] @ full[~stays][:, stays]

    # The ridge is that of the whole map, what goes included, and in the parts already.
    share = 1.0
    if not bool(stays.all()):
        share = share_that_holds([parts(half) for half in halves], _solved)
    found = torch.zeros_like(weight)
    found[:, stays] = weight[:, stays] + share * _solved(*parts(gram))
    return found, share


def lost(
    gram: Float64[Tensor, "e e"], old: Float64[Tensor, "m e"], new: Float64[Tensor, "m e"]
) -> float:
    """Return the squared error of the output, summed over the steps of the Gram."""
    change = old - new
    return max(float(((change @ gram) * change).sum()), 0.0)


def _costs(
    weight: Float64[Tensor, "m e"], inverse: Float64[Tensor, "e e"], columns: Int64[Tensor, "u w"]
) -> Float64[Tensor, "u"]:
    """Return what the removal of each unit costs; those that are gone cost nothing."""
    if columns.shape[1] == 1:
        flat = columns.flatten()
        return weight[:, flat].square().sum(0) / inverse.diagonal()[flat].clamp(min=1e-300)
    blocks = inverse[columns.unsqueeze(2), columns.unsqueeze(1)]
    # A block that is gone is zero; what it is taken to be does not matter, as its weights are too.
    empty = blocks.diagonal(dim1=1, dim2=2).sum(1) == 0
    blocks = blocks + empty[:, None, None] * torch.eye(columns.shape[1], dtype=blocks.dtype)
    own = weight[:, columns].movedim(1, 0)
    found: Tensor = (torch.linalg.solve(blocks, own.mT) * own.mT).sum((1, 2))
    return found


def _cheapest(costs: Float64[Tensor, "p u"], left: Int64[Tensor, "p"]) -> Bool[Tensor, "p u"]:
    """Return the cheapest of each part, as many as may still go from it."""
    rank = costs.argsort(dim=1, stable=True).argsort(dim=1, stable=True)
    return rank < left.unsqueeze(1)


def _remove_(
    weight: Float64[Tensor, "m e"], inverse: Float64[Tensor, "e e"], columns: Int64[Tensor, "r"]
) -> None:
    """Take columns out of a map and of the inverse Gram; what stays makes up for them."""
    moved = torch.linalg.solve(inverse[columns][:, columns], inverse[columns])
    weight -= weight[:, columns] @ moved
    inverse -= inverse[:, columns] @ moved
    weight[:, columns] = 0.0
    inverse[columns], inverse[:, columns] = 0.0, 0.0
