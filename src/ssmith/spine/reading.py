"""The stage that refits what reads the states of a Mamba-2 layer that stay."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor
from torch.nn import functional

from ssmith.calibrate import Stage
from ssmith.calibrate.grouped import sample_reads, sampled
from ssmith.core.errors import UnsupportedError
from ssmith.core.grouped import ReadSample
from ssmith.core.selective import BlockRecord, Statistics, Totals
from ssmith.families.mamba2.grouped import GroupedLayer, GroupedParts
from ssmith.families.parts.convolving import follows_silu
from ssmith.families.parts.hooks import MAPS
from ssmith.spine.compensate import COMPENSATION
from ssmith.surgery.reading import Reading, ReadingSamples, refit_reading

_ROW = "row"
LOOKED = 8192
"""Steps that rows are fitted to, of all the data if it has more: each is held by itself."""
_PARTS = ("own", "wanted", "whole", "given")
_FOURTH = 4
"""Every so many rows of the data one is held out: on it, too, the error must fall."""


def bars_reading(layer: GroupedLayer) -> str:
    """Return why what reads a layer's states cannot be refitted; empty if it can."""
    mixer = layer.mixer
    if mixer._buffers.get(MAPS[0]) is not None:
        return "its states are projected"
    if mixer.conv1d.bias is None:
        return "its convolution has no bias"
    if not follows_silu(mixer):
        return f"its convolution is followed by {mixer.activation}, no SiLU"
    return ""


def numbers_looked_at(layer: GroupedLayer, k: int) -> int:
    """Return how many numbers the stage holds of one layer of which k states stay."""
    taps: int = layer.mixer.conv1d.weight.shape[-1]
    return LOOKED * (1 + layer.g * (k * k + k + 1 + taps * layer.n))


def reading_stage(
    layer: GroupedLayer,
    kept: Callable[[], Bool[Tensor, "g n"]],
    steps: Callable[[], int],
) -> Stage:
    """Return the stage that fits the reading rows of states that stay to all of them.

    Of all ``steps`` of the data about `LOOKED` are looked at, evenly, and one of each row at least;
    each is held by itself, as no sums say what the SiLU does.
    """
    dense = GroupedLayer(layer.name, copy.deepcopy(layer.mixer))
    mixer = dense.mixer
    barred = bars_reading(dense)
    if barred:
        raise UnsupportedError(
            f"{layer.name}: reading rows are not refitted, as {barred}",
            allowed="compensate auto, none, O or S",
            next_step="leave compensate out: what can be refitted is",
        )

    def collect(cut: GroupedLayer, parts: GroupedParts) -> Statistics:
        del cut
        found: dict[str, list[Tensor]] = {}
        own = dense.parts(parts.hidden, parts.valid)
        width, keeps = mixer.conv1d.weight.shape[-1], kept().to(parts.hidden.device)
        stays = torch.stack([keep.nonzero().flatten() for keep in keeps])
        given = own.raw[..., -dense.g * dense.n :]
        given = functional.pad(given.unflatten(-1, (dense.g, -1)), (0, 0, 0, 0, width - 1, 0))
        stride = max(1.0, steps() / LOOKED)
        ends = sampled(given.shape[1] - width + 1, stride)
        for end, sample in zip(ends, sample_reads(dense, own, stride, stays), strict=True):
            rows = sample.valid.nonzero().flatten()
            found.setdefault(_ROW, []).append(rows)
            windows = given[rows, end - 1 : end - 1 + width]
            for group in range(dense.g):
                values = _costs(sample, rows, group)
                values["given"] = windows[:, :, group]
                for name, value in values.items():
                    found.setdefault(f"{name} {group}", []).append(value)
        whole = {name: torch.cat(values) for name, values in found.items()}
        # Row by row, so that it does not matter which ones shared a batch.
        row, order = whole[_ROW].sort(stable=True)
        begins = torch.ones_like(row)
        begins[1:] = (row[1:] != row[:-1]).to(row)
        return {name: value[order] for name, value in whole.items()} | {_ROW: begins}

    def apply(cut: GroupedLayer, totals: Totals) -> BlockRecord:
        before = after = 0.0
        device = mixer.in_proj.weight.device
        held = held_out_of(totals.sums[_ROW]).to(device)
        for group, keep in enumerate(kept().to(device)):
            own = {name: totals.sums[f"{name} {group}"].to(device) for name in _PARTS}
            places = _places(cut, group)
            conv: Any = cut.mixer.conv1d
            start = Reading(
                mixing=torch.eye(dense.n, dtype=torch.float64, device=device)[keep],
                taps=conv.weight[places, 0].double(), bias=conv.bias[places].double(),
            )  # fmt: skip
            found = refit_reading(ReadingSamples(**own, held=held), start)
            _write_(cut, dense, group, found)
            before, after = before + found.errors[0], after + found.errors[-1]
        facts = {"terms": "C", "error": {"before": before, "after": after}}
        return BlockRecord(
            layer=cut.name, stage=COMPENSATION, facts={**facts, "looked at": len(held)}
        )

    return Stage(name=COMPENSATION, collect=collect, apply=apply, samples=True)


def _costs(sample: ReadSample, rows: Int64[Tensor, "r"], group: int) -> Statistics:
    """Return what an error in reading costs at one step of some rows (see `ReadingSamples`).

    Products in the data's own precision: exactness would cost as much as all the rest.
    """
    own = (item[:, group] for item in (sample.states, sample.read, sample.gain))
    # Most often all rows count, and nothing need be copied.
    whole = len(rows) == len(sample.valid)
    states, read, gain = (item if whole else item[rows] for item in own)
    read = read.to(states.dtype)
    weighted = (states * gain.unsqueeze(-1)).mT
    return {
        "own": weighted @ states,
        "wanted": (weighted @ read.unsqueeze(-1)).squeeze(-1),
        "whole": (gain * read.square()).sum(-1),
    }


def held_out_of(begins: Float64[Tensor, "t"]) -> Bool[Tensor, "t"]:
    """Return which steps are held out: all of every fourth row, of fewer than four the last.

    Of a single row, the last fourth of its steps. ``begins`` is 1 at the first step of each row,
    else 0.
    """
    number = begins.cumsum(0)
    rows = int(number[-1]) if len(number) else 0
    if rows == 1:
        return torch.arange(len(number)) >= len(number) - len(number) // _FOURTH
    return number % min(rows, _FOURTH) == 0


def _places(layer: GroupedLayer, group: int) -> slice:
    """Return the channels of the convolution that read a group's states."""
    start = layer.e + (layer.g + group) * layer.n
    return slice(start, start + layer.n)


def _write_(cut: GroupedLayer, dense: GroupedLayer, group: int, found: Reading) -> None:
    """Write rows and filters into a cut layer; the rows are mixtures of the dense layer's."""
    new, old = _places(cut, group), _places(dense, group)
    conv: Any = cut.mixer.conv1d
    conv.weight[new, 0] = found.taps.to(conv.weight)
    conv.bias[new] = found.bias.to(conv.bias)
    # The rows of in_proj begin with the gate.
    into = slice(cut.e + new.start, cut.e + new.stop)
    out = slice(dense.e + old.start, dense.e + old.stop)
    for name in ("weight", "bias"):
        value, source = (getattr(item.mixer.in_proj, name) for item in (cut, dense))
        if value is not None:
            value[into] = (found.mixing @ source[out].double()).to(value)
