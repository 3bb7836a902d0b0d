"""A sequence model for series and tokens: whole, chunk by chunk, or step by step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Complex, Float, Int64
from torch import Tensor, nn

from ssmith.core.errors import DataError
from ssmith.core.preparation import Preparation
from ssmith.families.lti import Discrete, LTILayer, last_valid
from ssmith.families.s4d import S4DLayer
from ssmith.families.s5 import S5Layer
from ssmith.families.sequence.block import Block
from ssmith.families.sequence.config import SequenceConfig


@dataclass(frozen=True, kw_only=True)
class ModelState:
    """What a model remembers between steps, and the constants it runs with.

    ``pooled`` is the running sum (mean pooling) or the last feature (last pooling) of ``count``
    valid steps; ``discrete`` was fixed when the state was made.
    """

    layers: tuple[Complex[Tensor, "b _"], ...]
    pooled: Float[Tensor, "b m"]
    count: Int64[Tensor, "b"]
    discrete: tuple[Discrete, ...]


class SequenceModel(nn.Module):
    """Encoder, state space blocks, pooling over valid steps, head.

    Args:
        config: see `SequenceConfig`.
        generator: source of the state spaces' random initial values; torch's global one if None.
        preparation: how its rows are made of recordings; None where they come as they are.
    """

    def __init__(
        self,
        config: SequenceConfig,
        generator: torch.Generator | None = None,
        preparation: Preparation | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.preparation = preparation
        if config.vocabulary is None:
            read = (config.channels or 1) - config.intervals
            self.encoder: nn.Module = nn.Linear(read, config.width)
        else:
            self.encoder = nn.Embedding(config.vocabulary, config.width)
        self.blocks = nn.ModuleList(
            Block(_layer(config, states, generator), config.activation, config.dropout)
            for states in config.states
        )
        self.norm = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, config.outputs)

    def forward(
        self,
        x: Float[Tensor, "b l c"] | Int64[Tensor, "b l"],
        lengths: Int64[Tensor, "b"] | None = None,
    ) -> Float[Tensor, "b o"]:
        """Return the head's output for whole sequences, padded on the right.

        ``lengths`` counts the valid steps of each sequence, all if None; forecasts are flattened to
        horizon × channels.
        """
        self._check(x)
        steps = _steps(x, lengths)
        valid = None if lengths is None else _valid(steps, x.shape[1])
        x, widths = self._apart(x, valid)
        u = self._encode(x, valid)
        for block in self._blocks():
            u = block(u, valid, widths)
        if self.config.pooling == "mean":
            kept = u if valid is None else u * valid
            return self._answer(kept.sum(1), steps)
        return self._answer(last_valid(u, steps), steps)

    @torch.no_grad()
    def initial_state(self, batch_size: int) -> ModelState:
        """Return the state before the first step, with the parameters as they are now."""
        like = self.head.weight
        return ModelState(
            layers=tuple(block.ssm.initial_state(batch_size) for block in self._blocks()),
            pooled=torch.zeros(batch_size, self.config.width, dtype=like.dtype, device=like.device),
            count=torch.zeros(batch_size, dtype=torch.int64, device=like.device),
            discrete=tuple(block.ssm.discretise() for block in self._blocks()),
        )

    def scan(
        self,
        x: Float[Tensor, "b l c"] | Int64[Tensor, "b l"],
        state: ModelState,
        lengths: Int64[Tensor, "b"] | None = None,
    ) -> tuple[Float[Tensor, "b o"], ModelState]:
        """Continue from a state over a chunk; return the answer so far and the new state.

        Chunks are padded on the right; ``lengths`` counts valid steps in this one. Bidirectional
        models cannot.
        """
        self._check(x)
        steps = _steps(x, lengths)
        valid = _valid(steps, x.shape[1])
        x, widths = self._apart(x, valid)
        u = self._encode(x, valid)
        layers: list[Tensor] = []
        for block, start, discrete in zip(
            self._blocks(), state.layers, state.discrete, strict=True
        ):
            u, last = block.scan(u, start, steps, valid, discrete, widths=widths)
            layers.append(last)
        if self.config.pooling == "mean":
            pooled = state.pooled + (u * valid).sum(1)
        else:
            pooled = last_valid(u, steps, state.pooled)
        new = replace(state, layers=tuple(layers), pooled=pooled, count=state.count + steps)
        return self._answer(new.pooled, new.count), new

    def step(
        self,
        x: Float[Tensor, "b c"] | Int64[Tensor, "b"],
        state: ModelState,
        out: Sequence[Complex[Tensor, "b _"]] = (),
    ) -> tuple[Float[Tensor, "b o"], ModelState]:
        """Take one time step; return the answer so far and the new state.

        It is over everything seen so far; bidirectional models cannot. ``out`` may name a tensor
        for each layer, other than its state, that the new one is written to; without gradients.
        """
        self._check(x, "batch")
        x, widths = self._apart(x)
        u = self.encoder(x)
        layers: list[Tensor] = []
        places: Sequence[Tensor | None] = out or [None] * len(self.blocks)
        for block, start, discrete, place in zip(
            self._blocks(), state.layers, state.discrete, places, strict=True
        ):
            u, last = block.step(u, start, discrete, widths, place)
            layers.append(last)
        pooled = state.pooled + u if self.config.pooling == "mean" else u
        new = replace(state, layers=tuple(layers), pooled=pooled, count=state.count + 1)
        return self._answer(new.pooled, new.count), new

    def current_config(self) -> SequenceConfig:
        """Return the configuration with the states the layers have now."""
        states: list[int | tuple[int, ...]] = []
        for block in self._blocks():
            layer = block.ssm
            if isinstance(layer, S4DLayer):
                counts = layer.counts()
                states.append(counts[0] if len(set(counts)) == 1 else tuple(counts))
            else:
                states.append(layer.n_states)
        return replace(self.config, states=tuple(states))

    def _answer(self, pooled: Float[Tensor, "b m"], count: Int64[Tensor, "b"]) -> Tensor:
        if self.config.pooling == "mean":
            pooled = pooled / count.clamp(min=1).unsqueeze(1)
        out: Tensor = self.head(self.norm(pooled))
        return out

    def _blocks(self) -> Sequence[Block]:
        return [block for block in self.blocks if isinstance(block, Block)]

    def _encode(self, x: Tensor, valid: Bool[Tensor, "b l 1"] | None) -> Float[Tensor, "b l m"]:
        """Encode the input; padding may hold anything, so it is blanked first."""
        if valid is not None:
            x = x.masked_fill(~(valid if x.ndim == 3 else valid.squeeze(-1)), 0)
        encoded: Tensor = self.encoder(x)
        return encoded

    def _apart(
        self, x: Tensor, valid: Bool[Tensor, "b l 1"] | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Return what is encoded, and how long each step was where the last channel says it."""
        if not self.config.intervals:
            return x, None
        widths = x[..., -1].clamp(min=0)
        return x[..., :-1], widths if valid is None else widths.masked_fill(~valid.squeeze(-1), 0)

    def _check(self, x: Tensor, axes: str = "batch, length") -> None:
        config = self.config
        leading = axes.count(",") + 1
        if config.vocabulary is not None:
            if x.ndim != leading or x.is_floating_point():
                raise DataError(
                    f"input of shape {tuple(x.shape)} and type {x.dtype}",
                    allowed=f"integer tokens ({axes})",
                )
        elif x.ndim != leading + 1 or x.shape[-1] != config.channels:
            raise DataError(
                f"input of shape {tuple(x.shape)}",
                allowed=f"({axes}, {config.channels})",
                next_step="check the data's channel count against the model's",
            )


def _layer(
    config: SequenceConfig, states: int | tuple[int, ...], generator: torch.Generator | None
) -> LTILayer:
    if config.family == "s4d":
        kind = "legs" if config.initialisation == "hippo" else config.initialisation
        return S4DLayer(
            config.width, states, initialisation=kind, options=config.options, generator=generator
        )
    count = states if isinstance(states, int) else sum(states)
    # A cut layer's states need not divide into blocks; its values are loaded, not drawn.
    blocks = config.blocks if count % config.blocks == 0 else 1
    return S5Layer(config.width, count, blocks=blocks, options=config.options, generator=generator)


def _steps(x: Tensor, lengths: Int64[Tensor, "b"] | None) -> Int64[Tensor, "b"]:
    """Return the valid steps of each sequence: those given, or all there are."""
    batch, length = x.shape[:2]
    if lengths is None:
        return torch.full((batch,), length, dtype=torch.int64, device=x.device)
    fits = lengths.shape == (batch,) and bool(((lengths >= 0) & (lengths <= length)).all())
    if not fits:
        raise DataError(
            f"lengths {lengths.tolist()[:8]} for an input of shape {tuple(x.shape)}",
            allowed=f"one number in [0, {length}] for each of {batch} sequences",
        )
    return lengths


def _valid(lengths: Int64[Tensor, "b"], length: int) -> Bool[Tensor, "b l 1"]:
    steps = torch.arange(length, device=lengths.device)
    return (steps < lengths.unsqueeze(1)).unsqueeze(-1)
