"""Moments on sequences, summed batch by batch in float64."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ssmith.calibrate.siso import sums_for
from ssmith.core.errors import InputError
from ssmith.core.moments import Moments
from ssmith.core.sequences import Sequences
from ssmith.families import Tap, find_layers, tapped


@dataclass(frozen=True, kw_only=True)
class LayerOutputs:
    """What a model's layers give on some sequences: measured once, it serves many cuts of it.

    Args:
        batches: per batch, layer name → output, (b, l, m) of that batch.
    """

    batches: tuple[dict[str, Tensor], ...]


@torch.no_grad()
def outputs_of(model: nn.Module, part: Sequences, batch_size: int = 64) -> LayerOutputs:
    """Record what all layers of a model give on sequences, O(steps · m) memory per layer.

    Args:
        model: run in evaluation mode; it is not changed.
        part: sequences.
        batch_size: sequences per forward pass; those who use the outcome must take as many.

    Returns:
        Every layer's output.
    """
    taps = (run_tapped(model, batch) for batch in batches(part, batch_size))
    return LayerOutputs(batches=tuple({k: y.cpu() for k, (_, y) in tap.items()} for tap in taps))


def outputs_on(
    reference: nn.Module | LayerOutputs, place: int, batch: Sequences, last: str | None
) -> dict[str, Float[Tensor, "b l m"]]:
    """Return what a reference's layers, up to ``last``, give on the ``place``-th batch."""
    if isinstance(reference, LayerOutputs):
        return reference.batches[place]
    return {name: y for name, (_, y) in run_tapped(reference, batch, last).items()}


@torch.no_grad()
def measure_moments(
    model: nn.Module,
    part: Sequences,
    *,
    reference: nn.Module | LayerOutputs | None = None,
    layers: Collection[str] | None = None,
    batch_size: int = 64,
) -> dict[str, Moments]:
    """Measure the moments of every layer on sequences.

    Memory is O(f²) per layer beside one batch's states; padded steps do not count.

    Args:
        model: run in evaluation mode; it is not changed.
        part: sequences, e.g. ``data.split("train")``.
        reference: the model whose layers' outputs are to be imitated, or what they were on these
            very sequences (`outputs_of`); ``model`` itself if None.
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
    for place, batch in enumerate(batches(part, batch_size)):
        own = run_tapped(model, batch, last)
        other = None if reference is None else outputs_on(reference, place, batch, last)
        steps = torch.arange(batch.x.shape[1], device=batch.lengths.device)
        valid = steps < batch.lengths.unsqueeze(1)
        for name, total in sums.items():
            u, y = own[name]
            total.add(
                u, valid, None if other is None else other[name].double().to(y.device) - y.double()
            )
    return {name: total.result() for name, total in sums.items()}


def batches(part: Sequences, batch_size: int) -> Iterator[Sequences]:
    """Yield all sequences, those of like length together: padding costs time and tells nothing."""
    for index in part.lengths.argsort(stable=True).split(batch_size):
        yield part.take(index)


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
