"""Moments on sequences, summed batch by batch in float64."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ssmith.calibrate.siso import sums_for
from ssmith.core.errors import InputError
from ssmith.core.moments import Moments
from ssmith.core.sequences import Sequences
from ssmith.families import Tap, find_layers, tapped


@torch.no_grad()
def measure_moments(
    model: nn.Module,
    part: Sequences,
    *,
    reference: nn.Module | None = None,
    layers: Collection[str] | None = None,
    batch_size: int = 64,
) -> dict[str, Moments]:
    """Measure the moments of every layer on sequences.

    Memory is O(f²) per layer beside one batch's states; padded steps do not count.

    Args:
        model: run in evaluation mode; it is not changed.
        part: sequences, e.g. ``data.split("train")``.
        reference: the model whose layers' outputs are to be imitated; ``model`` itself if None.
        layers: names of the layers to measure; all if None.
        batch_size: sequences per forward pass, ≥ 1.

    Returns:
        Layer name → moments.

    Raises:
        InputError: if a layer is unknown or the batch size is no positive integer.
        DataError: if there is no sequence.
        NumericalError: if states are not finite.
    """
    found = find_layers(model)
    unknown = sorted(set(layers or ()) - set(found))
    if unknown:
        raise InputError(f"there are no layers {unknown}", allowed=", ".join(found))
    names = [name for name in found if layers is None or name in layers]
    if not isinstance(batch_size, int) or batch_size < 1:
        raise InputError(f"batch_size is {batch_size!r}", allowed="an integer ≥ 1")
    last = names[-1] if names else None
    sums = {name: sums_for(found[name].modes(name)) for name in names}
    everyone = torch.arange(len(part), device=part.x.device)
    for index in everyone.split(batch_size):
        batch = part.take(index)
        own = run_tapped(model, batch, last)
        other = None if reference is None else run_tapped(reference, batch, last)
        steps = torch.arange(batch.x.shape[1], device=batch.lengths.device)
        valid = steps < batch.lengths.unsqueeze(1)
        for name, total in sums.items():
            u, y = own[name]
            total.add(u, valid, None if other is None else other[name][1].double() - y.double())
    return {name: total.result() for name, total in sums.items()}


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Run the block in evaluation mode; every part of the model gets its own mode back."""
    training = {part: part.training for part in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for part, before in training.items():
            part.training = before


def inputs_of(model: nn.Module, batch: Sequences) -> tuple[Tensor, Tensor]:
    """Return a batch's ``x`` and ``lengths`` in the model's type and on its device."""
    parameter = next(model.parameters())
    x = batch.x.to(parameter.device)
    x = x.to(parameter.dtype) if x.is_floating_point() else x
    return x, batch.lengths.to(parameter.device)


def run_tapped(model: nn.Module, batch: Sequences, last: str | None = None) -> Tap:
    """Return what goes into and comes out of each layer, up to ``last``, on a batch."""
    with evaluating(model), tapped(model, last=last) as tap:
        model(*inputs_of(model, batch))
    return tap
