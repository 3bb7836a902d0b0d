"""Canary subjects for models that answer sequences: step by step, or whole ones in a batch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ssmith.core.seeds import generator
from ssmith.core.trees import dtype_of, place_of
from ssmith.evaluation.path_rows import TOLERANCES
from ssmith.families import Answers, ModelState, SequenceModel
from ssmith.trials.canary.subject import Answer, Request

_POISONED_COUNT = -(2**40)


@dataclass(kw_only=True)
class _Drawing:
    """Requests of random inputs for a model of sequences, over whose layers rounding adds up."""

    model: Any
    answers: Answers
    longest: int
    seed: int
    layers: int = 1
    name: str = ""
    held: dict[int, Request] = field(default_factory=dict)
    said: dict[int, Answer] = field(default_factory=dict)

    @property
    def tolerance(self) -> float:
        """What rounding may do."""
        return TOLERANCES[dtype_of(self.model) or torch.float32] * self.layers

    def draw(self, number: int, cancel: bool) -> Request:
        """Draw a sequence of random length."""
        draw = generator(self.seed, "canary", number)
        length = int(torch.randint(1, self.longest + 1, (), generator=draw))
        device = place_of(self.model)
        if self.answers.vocabulary is not None:
            inputs = torch.randint(self.answers.vocabulary, (length,), generator=draw)
        else:
            inputs = torch.randn(length, self.answers.channels or 1, generator=draw)
            inputs = inputs.to(dtype_of(self.model))
        ends = int(torch.randint(1, length + 1, (), generator=draw)) if cancel else None
        return Request(number=number, inputs=inputs.to(device), length=length, cancelled=ends)

    def answer(self, slot: int) -> Answer | None:
        """Return the newest answer in a slot."""
        return self.said.get(slot)

    def _padded(self, parts: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return parts as one batch, padded with what would do most harm."""
        lengths = torch.tensor([len(part) for part in parts], device=parts[0].device)
        filler = math.nan if parts[0].is_floating_point() else 0
        whole = nn.utils.rnn.pad_sequence(list(parts), batch_first=True, padding_value=filler)
        return whole, lengths


@dataclass(kw_only=True)
class Stepping(_Drawing):
    """A `SequenceModel` that carries a state."""

    model: SequenceModel
    carries: bool = True
    state: ModelState = field(init=False)

    def alone(self, request: Request) -> dict[int, Float[Tensor, "o"]]:
        """Take one step after the other."""
        state, found = self.model.initial_state(1), {}
        for place, step in enumerate(request.inputs, start=1):
            out, state = self.model.step(step[None], state)
            found[place] = out[0]
        return found

    def open(self, slots: int) -> None:
        """Make a state with a row for each slot."""
        self.held, self.said = {}, {}
        self.state = self.model.initial_state(slots)
        for slot in range(slots):
            self.free(slot)

    def begin(self, requests: Mapping[int, Request]) -> None:
        """Write fresh states into slots."""
        fresh = self.model.initial_state(len(requests))
        self._write([*requests], fresh)
        self.held |= requests

    def advance(self, slots: Sequence[int]) -> None:
        """Run chunks of unlike lengths together, now and then single steps."""
        parts = []
        for slot in slots:
            request = self.held[slot]
            done = self.said[slot].done if slot in self.said else 0
            draw = generator(self.seed, "chunk", request.number, done)
            size = int(torch.randint(1, 5, (), generator=draw))
            parts.append(request.inputs[done : min(done + size, request.last)])
        state = self._read(slots)
        if all(len(part) == 1 for part in parts):
            out, state = self.model.step(torch.cat(parts), state)
        else:
            out, state = self.model.scan(*self._chunks(parts, state))
        self._write(slots, state)
        for slot, part, row in zip(slots, parts, out, strict=True):
            before = self.said[slot].done if slot in self.said else 0
            self.said[slot] = Answer(done=before + len(part), output=row)

    def _chunks(self, parts: Sequence[Tensor], state: ModelState) -> tuple[Any, ModelState, Tensor]:
        whole, lengths = self._padded(parts)
        return whole, state, lengths

    def free(self, slot: int) -> None:
        """Poison the row of a slot."""
        self.held.pop(slot, None)
        self.said.pop(slot, None)
        for layer in self.state.layers:
            layer[slot] = torch.nan
        self.state.pooled[slot] = torch.nan
        self.state.count[slot] = _POISONED_COUNT

    def _read(self, slots: Sequence[int]) -> ModelState:
        index = torch.tensor(slots, device=self.state.count.device)
        return replace(
            self.state,
            layers=tuple(layer[index] for layer in self.state.layers),
            pooled=self.state.pooled[index],
            count=self.state.count[index],
        )

    def _write(self, slots: Sequence[int], state: ModelState) -> None:
        index = torch.tensor(slots, device=self.state.count.device)
        for layer, new in zip(self.state.layers, state.layers, strict=True):
            layer[index] = new
        self.state.pooled[index] = state.pooled
        self.state.count[index] = state.count
        # Whoever still reads what was copied reads poison.
        for tensor in (*state.layers, state.pooled):
            tensor.fill_(torch.nan)


@dataclass(kw_only=True)
class Whole(_Drawing):
    """A model that carries no state from step to step: whole sequences, padded in a batch."""

    model: nn.Module
    carries: bool = False

    def alone(self, request: Request) -> dict[int, Float[Tensor, "o"]]:
        """Answer one sequence by itself."""
        return {request.length: self._run([request])[0]}

    def open(self, slots: int) -> None:
        """Forget all slots."""
        self.held, self.said = {}, {}

    def begin(self, requests: Mapping[int, Request]) -> None:
        """Remember who is where; nothing runs yet."""
        self.held |= requests

    def advance(self, slots: Sequence[int]) -> None:
        """Answer whole sequences together."""
        requests = [self.held[slot] for slot in slots]
        for slot, request, row in zip(slots, requests, self._run(requests), strict=True):
            self.said[slot] = Answer(done=request.length, output=row)

    def free(self, slot: int) -> None:
        """Forget a slot; there is no state to poison."""
        self.held.pop(slot, None)
        self.said.pop(slot, None)

    def _run(self, requests: Sequence[Request]) -> Float[Tensor, "b o"]:
        out: Tensor = self.model(*self._padded([request.inputs for request in requests]))
        return out
