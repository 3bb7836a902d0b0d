"""What a block did that went, fitted into the output map of the block before it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor, nn

from ssmith.calibrate.behind import last_linear, scale_in_stream
from ssmith.calibrate.observe import Call, observe, valid_of
from ssmith.calibrate.shards import added
from ssmith.calibrate.sites import engaged
from ssmith.core.rows import Rows
from ssmith.core.running import evaluating
from ssmith.core.selective import Statistics
from ssmith.criteria.outputs import best_change, share_that_holds
from ssmith.families import chain_of
from ssmith.families.parts.convolving import at_least_float32
from ssmith.spine.output_maps import lacking_sums


@dataclass(frozen=True, kw_only=True)
class Absorber:
    """Fits maps to what the ``dense`` model's stream is behind a block that went.

    With f what the map W is given, t what the stream lacks, and m what the block multiplies the
    map's output by, ``W ← W + E[t fᵀ] (E[f fᵀ] + ridge)⁻¹ / m``.
    """

    dense: nn.Module
    rows: Rows
    batch_size: int

    @contextmanager
    def tried(self, work: nn.Module, place: int, block: int) -> Iterator[None]:
        """Let the block before a place make up for a block inside the ``with``."""
        linear = self.absorb_(work, place, block)
        try:
            yield
        finally:
            if linear is not None:
                linear[0].weight.data = linear[1]

    @torch.no_grad()
    def absorb_(self, work: nn.Module, place: int, block: int) -> tuple[nn.Linear, Tensor] | None:
        """Refit the last map of the block before a place, where the dense model's block stood.

        Returns the map, and its weight as it was; None where there is no such block or map.
        """
        name = chain_of(work).name
        before, behind = f"{name}.{place - 1}", f"{name}.{block}"
        found = self._last_map(work, before) if place else None
        if found is None:
            return None
        path, scale = found
        linear: Any = work.get_submodule(path)
        middle, halves = len(self.rows) // 2, list[tuple[Tensor, Tensor]]()
        for half in (range(middle), range(middle, len(self.rows))):
            sums: Statistics | None = None
            for items in self.rows.ranges(self.batch_size, half):
                (wanted,) = self._called(self.dense, items, [behind])
                own, stream = self._called(work, items, [path, before])
                valid = valid_of(self.rows.batch(items).valid, before, [stream])[0]
                lacking = (_output(wanted) - _output(stream)) / scale
                sums = added(sums, lacking_sums(at_least_float32(own.given), lacking, valid))
            if sums is not None:
                halves.append((sums["gram"], sums["lacking"]))
        gram, lacking = (torch.stack(items).sum(0) for items in zip(*halves, strict=True))
        share = share_that_holds(halves if len(halves) > 1 else [])
        change, old = share * best_change(gram, lacking), linear.weight.data
        linear.weight.data = (old.double() + change.to(old.device)).to(old.dtype)
        return linear, old

    def _called(self, model: nn.Module, items: range, names: list[str]) -> list[Call]:
        """Return how modules are called in one batch, each once."""
        modules = {name: model.get_submodule(name) for name in names}
        with evaluating(model), engaged(model):
            calls = observe(
                lambda: self.rows.forward(model, self.rows.batch(items)), modules, outputs=True,
                # A block is called before what stands in it, and gives its output after it.
                until=dict.fromkeys(names, 1) if len(names) == 1 else None,
            )  # fmt: skip
        return [calls[name][0] for name in names]

    def _last_map(self, model: nn.Module, block: str) -> tuple[str, float] | None:
        """Return the linear layer that a block adds to its stream last, and what multiplies it."""
        items = self.rows.ranges(self.batch_size)[0]
        with evaluating(model), engaged(model):
            last = last_linear(
                lambda: self.rows.forward(model, self.rows.batch(items)),
                model.get_submodule(block), once=True,
            )  # fmt: skip
        if last is None:
            return None
        path, linear = f"{block}.{last[0]}", last[1]
        (once,) = self._called(model, items, [path])
        scale = scale_in_stream(
            linear, once.given, lambda: _output(self._called(model, items, [block])[0])
        )
        return None if scale is None else (path, scale)


def _output(call: Call) -> Float64[Tensor, "b l m"]:
    assert call.output is not None
    return call.output.double()
