"""Moments on sequences, summed batch by batch in float64."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ssmith.core.errors import DataError, InputError, NumericalError
from ssmith.core.layers import Modes
from ssmith.core.layout import Layout
from ssmith.core.moments import Moments
from ssmith.core.sequences import Sequences
from ssmith.families import Tap, find_layers, tapped
from ssmith.ops.diagonal import diagonal_scan

ROWS = 2**22
"""Complex numbers of state that are held at once; longer batches are cut into fewer sequences."""


@dataclass(kw_only=True)
class Accumulator:
    """Sums of products for one layer; any order of batches gives the same moments.

    Args:
        modes: the layer as it is now.
    """

    modes: Modes
    layout: Layout = field(init=False)
    steps: int = 0
    sums: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.layout = Layout.of(self.modes)

    def add(
        self,
        u: Float[Tensor, "b l m"],
        valid: Bool[Tensor, "b l"],
        lacking: Float[Tensor, "b l m"] | None,
    ) -> None:
        """Add the steps of some sequences.

        Args:
            u: the layer's input, zero in padded steps.
            valid: True at the steps that count.
            lacking: what the output lacks; nothing if None.
        """
        per_sequence = max(1, u.shape[1] * self.modes.count * self.layout.directions)
        for index in torch.arange(len(u)).split(max(1, ROWS // per_sequence)):
            rest = None if lacking is None else lacking[index].double().cpu()
            self._add(u[index].double().cpu(), valid[index].cpu(), rest)

    def _add(self, u: Tensor, valid: Tensor, lacking: Tensor | None) -> None:
        modes, layout = self.modes, self.layout
        if modes.channel is None:
            Bu = u.to(torch.complex128) @ modes.B_bar.mT
        else:
            Bu = u[..., modes.channel] * modes.B_bar[:, 0]
        Bu = Bu * modes.present
        front = diagonal_scan(modes.A_bar, Bu)[0][valid]
        back = None
        if layout.directions == 2:
            back = diagonal_scan(modes.A_bar, Bu, reverse=True)[0][valid]
        z = layout.features(front, back)
        given = layout.signals(u[valid])
        e = torch.zeros_like(given) if lacking is None else layout.signals(lacking[valid])
        found = {
            "gram": z.mT @ z,
            "error": z.mT @ e,
            "error_energy": (e * e).sum(1),
            "input": z.mT @ given,
            "input_energy": (given * given).sum(1),
            "input_error": (given * e).sum(1),
        }
        self.steps += int(valid.sum())
        for name, value in found.items():
            self.sums[name] = value + self.sums[name] if name in self.sums else value

    def result(self) -> Moments:
        """Return the mean products.

        Returns:
            The layer's moments.

        Raises:
            DataError: if no step was added.
            NumericalError: if a product is not finite.
        """
        layer = self.modes.layer
        if not self.steps:
            raise DataError("there is no valid step to calibrate on", next_step="check the lengths")
        means = {name: value / self.steps for name, value in self.sums.items()}
        if not all(bool(torch.isfinite(value).all()) for value in means.values()):
            raise NumericalError(
                f"layer {layer}: its states left the finite numbers on these sequences",
                next_step="check the model for unstable states and the data for extreme values",
            )
        return Moments(layer=layer, source="data", steps=self.steps, **means)


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
    names = list(found) if layers is None else list(layers)
    unknown = sorted(set(names) - set(found))
    if unknown:
        raise InputError(f"there are no layers {unknown}", allowed=", ".join(found))
    if not isinstance(batch_size, int) or batch_size < 1:
        raise InputError(f"batch_size is {batch_size!r}", allowed="an integer ≥ 1")
    sums = {name: Accumulator(modes=found[name].modes(name)) for name in names}
    everyone = torch.arange(len(part), device=part.x.device)
    for index in everyone.split(batch_size):
        batch = part.take(index)
        own = _run(model, batch)
        other = None if reference is None else _run(reference, batch)
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


def _run(model: nn.Module, batch: Sequences) -> Tap:
    with evaluating(model), tapped(model) as tap:
        model(*inputs_of(model, batch))
    return tap
