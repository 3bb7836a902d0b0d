"""Moments on any rows, summed batch by batch in float64."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import nn

from ssmith.calibrate.flow import flows_of
from ssmith.calibrate.observe import Call, observe
from ssmith.calibrate.siso import sums_for
from ssmith.core.checks import check_integer
from ssmith.core.errors import InputError
from ssmith.core.moments import Moments
from ssmith.core.rows import Batch, Rows, as_rows
from ssmith.core.running import evaluating
from ssmith.families import find_layers


def measure_moments(
    model: nn.Module,
    rows: Rows,
    *,
    reference: nn.Module | None = None,
    layers: Collection[str] | None = None,
    batch_size: int = 64,
) -> dict[str, Moments]:
    """Measure the moments of every layer.

    Memory is O(f²) per layer beside one batch's states; padded steps do not count. ``reference`` is
    the network whose layers' outputs are to be imitated, ``model`` itself if None; ``layers`` names
    those to measure, all if None.
    """
    found, rows = find_layers(model), as_rows(rows)
    unknown = sorted(set(layers or ()) - set(found))
    if unknown:
        raise InputError(f"there are no layers {unknown}", allowed=", ".join(found))
    check_integer("batch_size", batch_size, at_least=1)
    chosen = {name: layer for name, layer in found.items() if layers is None or name in layers}
    sums = {name: sums_for(layer.modes(name)) for name, layer in chosen.items()}
    for items in rows.ranges(batch_size):
        batch = rows.batch(items)
        own = _calls(model, rows, batch, chosen)
        other: dict[str, list[Call]] = {}
        if reference is not None:
            there = find_layers(reference)
            other = _calls(reference, rows, batch, {name: there[name] for name in chosen})
        for name, total in sums.items():
            for flow in flows_of(name, own[name], batch.valid, other.get(name)):
                record = flow.recording()
                missing = record.missing() if other else None
                total.add(record.u, record.valid, missing, record.widths)
    return {name: total.result() for name, total in sums.items()}


@torch.no_grad()
def _calls(
    model: nn.Module, rows: Rows, batch: Batch, layers: Mapping[str, nn.Module]
) -> dict[str, list[Call]]:
    with evaluating(model):
        return observe(lambda: rows.forward(model, batch), layers, outputs=True)
