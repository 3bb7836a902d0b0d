"""The stage that refits what reads the states of a Mamba-2 layer that stay."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor
from torch.nn import functional

from ssmith.calibrate import Stage
from ssmith.calibrate.grouped import sample_states, sampled
from ssmith.core.errors import UnsupportedError
from ssmith.core.selective import BlockRecord, Statistics, Totals
from ssmith.families.mamba2.forward import split
from ssmith.families.mamba2.grouped import GroupedLayer, GroupedParts
from ssmith.families.parts.hooks import MAPS
from ssmith.spine.compensate import COMPENSATION
from ssmith.surgery.reading import Reading, ReadingSamples, refit_reading

_PARTS = ("energy", "own", "whole", "C", "given", "held")
_FOURTH = 4
"""Every so many windows one is held out: on it, too, the error must fall."""


def reading_stage(
    layer: GroupedLayer, stride: int, kept: Callable[[], Bool[Tensor, "g n"]]
) -> Stage:
    """Return the stage that fits the reading rows of states that stay to all of them.

    Every step that is looked at is held by itself, as no sums say what the SiLU does.
    """
    dense = GroupedLayer(layer.name, copy.deepcopy(layer.mixer))
    mixer = dense.mixer
    if mixer._buffers.get(MAPS[0]) is not None or mixer.conv1d.bias is None:
        raise UnsupportedError(
            f"{layer.name}: reading rows are not refitted where states are projected or the "
            "convolution has no bias",
            allowed="compensate auto, none or O",
        )

    def collect(cut: GroupedLayer, parts: GroupedParts) -> Statistics:
        del cut
        found: dict[str, list[Tensor]] = {}
        own = dense.parts(parts.hidden, parts.valid)
        rows, width = dense.g * dense.n, mixer.conv1d.weight.shape[-1]
        given = split(mixer, parts.hidden)[1][..., -rows:].unflatten(-1, (dense.g, -1))
        given = functional.pad(given, (0, 0, 0, 0, width - 1, 0)).double()
        ends = sampled(given.shape[1] - width + 1, stride)
        for end, sample in zip(ends, sample_states(dense, own, stride), strict=True):
            states, C = sample.states.double(), sample.C.double()
            energy = torch.einsum("bgcn,bgc,bgcm->bgnm", states, sample.gain.double(), states)
            for group, keep in enumerate(kept().to(states.device)):
                K, c = energy[sample.valid, group], C[sample.valid, group]
                window = given[sample.valid, end - 1 : end - 1 + width, group]
                whole = torch.einsum("bn,bnm,bm->b", c, K, c)
                held = torch.arange(len(K), device=K.device) % _FOURTH == _FOURTH - 1
                values = (K[:, keep], K[:, keep][:, :, keep], whole, c, window, held)
                for name, value in zip(_PARTS, values, strict=True):
                    found.setdefault(f"{name} {group}", []).append(value)
        return {name: torch.cat(values) for name, values in found.items()}

    def apply(cut: GroupedLayer, totals: Totals) -> BlockRecord:
        before = after = 0.0
        for group, keep in enumerate(kept().to(mixer.in_proj.weight.device)):
            own = {name: totals.sums[f"{name} {group}"] for name in _PARTS}
            samples = ReadingSamples(**own | {"held": own["held"].bool()})
            places = _places(cut, group)
            conv: Any = cut.mixer.conv1d
            start = Reading(
                mixing=torch.eye(dense.n, dtype=torch.float64, device=keep.device)[keep],
                taps=conv.weight[places, 0].double(), bias=conv.bias[places].double(),
            )  # fmt: skip
            found = refit_reading(samples, start)
            _write_(cut, dense, group, found)
            before, after = before + found.errors[0], after + found.errors[-1]
        facts = {"terms": "C", "error": {"before": before, "after": after}}
        return BlockRecord(layer=cut.name, stage=COMPENSATION, facts=facts)

    return Stage(name=COMPENSATION, collect=collect, apply=apply, whole_batch=True)


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
