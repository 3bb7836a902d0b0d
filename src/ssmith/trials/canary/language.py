"""Canary subject for language models: prompts of unlike lengths, and tokens after them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ssmith.core.seeds import generator
from ssmith.core.trees import dtype_of, place_of
from ssmith.evaluation.path_rows import TOLERANCES
from ssmith.families.hf.running import forward, is_hybrid, padded
from ssmith.families.hf.slots import Row, cache_of, mask_for, poison_, rows_of
from ssmith.families.registry import mixers
from ssmith.trials.canary.subject import Answer, Request


@dataclass(kw_only=True)
class _Slot:
    """A request, its state, and the tokens that it has given so far."""

    request: Request
    tokens: list[int]
    row: Row
    answer: Answer


@dataclass(kw_only=True)
class LanguageSubject:
    """A language model, running on the engine in evaluation mode.

    After the prompt a request gives the tokens that are likeliest when it runs alone, so that one
    difference does not make all that follows another text.

    Args:
        model: a transformers language model.
        vocabulary: token ids it knows.
        longest: most tokens of a prompt.
        following: tokens after it.
        seed: of everything random.
    """

    model: Any
    vocabulary: int
    longest: int
    following: int
    seed: int
    name: str = ""
    carries: bool = True
    like: Any = None
    table: dict[int, _Slot] = field(default_factory=dict)
    likeliest: dict[int, list[int]] = field(default_factory=dict)

    @property
    def tolerance(self) -> float:
        """What rounding may do."""
        dtype = dtype_of(self.model) or torch.float32
        wide = dtype in (torch.float32, torch.float64)
        return TOLERANCES[dtype] * (len(mixers(self.model)[0]) if wide else 1)

    def draw(self, number: int, cancel: bool) -> Request:
        """Draw a prompt of random length."""
        draw = generator(self.seed, "canary", number)
        size = int(torch.randint(1, self.longest + 1, (), generator=draw))
        prompt = torch.randint(
            min(1, self.vocabulary - 1), self.vocabulary, (size,), generator=draw
        )
        ends = int(torch.randint(self.following, (), generator=draw)) if cancel else None
        return Request(
            number=number, inputs=prompt.to(place_of(self.model)), length=self.following,
            cancelled=ends,
        )  # fmt: skip

    def alone(self, request: Request) -> dict[int, Float[Tensor, "o"]]:
        """Write greedily after one prompt, and remember what was written."""
        logits, carried = forward(self.model, request.inputs[None], None)
        found, written = {0: logits[0, -1]}, []
        for place in range(1, request.length + 1):
            written.append(int(found[place - 1].argmax()))
            logits, carried = forward(
                self.model, request.inputs.new_tensor([written[-1:]]), carried
            )
            found[place] = logits[0, -1]
        self.likeliest[request.number] = written
        return found

    def open(self, slots: int) -> None:
        """Forget all slots."""
        self.table = {}

    def begin(self, requests: Mapping[int, Request]) -> None:
        """Read prompts together, padded on the left."""
        prompts = [request.inputs for request in requests.values()]
        ids, mask = padded(prompts, left=True)
        logits, carried = forward(self.model, ids, None, mask)
        rows = self._taken(carried, [len(prompt) for prompt in prompts])
        for place, (slot, request) in enumerate(requests.items()):
            self.table[slot] = _Slot(
                request=request,
                tokens=self.likeliest[request.number],
                row=rows[place],
                answer=Answer(done=0, output=logits[place, -1]),
            )

    def advance(self, slots: Sequence[int]) -> None:
        """Give one more token to each."""
        held = [self.table[slot] for slot in slots]
        done = [item.answer.done for item in held]
        lengths = [len(item.request.inputs) + count for item, count in zip(held, done, strict=True)]
        device = place_of(self.model)
        step = [[item.tokens[count]] for item, count in zip(held, done, strict=True)]
        mask = mask_for(lengths, device) if is_hybrid(self.model) else None
        logits, carried = forward(
            self.model, torch.tensor(step, device=device), self._together(held), mask
        )
        rows = self._taken(carried, [length + 1 for length in lengths])
        for place, item in enumerate(held):
            item.row = rows[place]
            item.answer = Answer(done=done[place] + 1, output=logits[place, -1])

    def _together(self, held: Sequence[_Slot]) -> Any:
        """Return the states of some slots as one cache."""
        return cache_of(self.like, [item.row for item in held])

    def _taken(self, carried: Any, lengths: list[int]) -> list[Row]:
        """Copy states out of a cache, and poison what they were copied from."""
        rows = rows_of(carried, lengths)
        poison_(carried)
        self.like = carried
        return rows

    def answer(self, slot: int) -> Answer | None:
        """Return the newest logits in a slot."""
        return self.table[slot].answer if slot in self.table else None

    def free(self, slot: int) -> None:
        """Poison what a slot holds."""
        for layer in self.table.pop(slot).row:
            for value in layer.values():
                value.fill_(torch.nan)
