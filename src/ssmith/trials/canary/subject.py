"""What a canary is run on: a model that carries a state for each request in a slot of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Request:
    """One request: tokens (l,) or a series (l, c), done after ``length`` steps.

    ``cancelled`` are steps after which its client is gone; None if it waits for the end.
    """

    number: int
    inputs: Tensor
    length: int
    cancelled: int | None = None

    @property
    def last(self) -> int:
        """Steps after which its slot is free again."""
        return self.length if self.cancelled is None else min(self.cancelled, self.length)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a model says to a request after some of its steps."""

    done: int
    output: Float[Tensor, "o"]


@runtime_checkable
class Interleavable(Protocol):
    """A model whose requests can be interleaved."""

    @property
    def name(self) -> str:
        """What it is."""

    @property
    def carries(self) -> bool:
        """Whether a state is carried; else a request is answered in one call, never cancelled."""

    @property
    def tolerance(self) -> float:
        """Largest difference that rounding makes, in units of the largest output."""

    def draw(self, number: int, cancel: bool) -> Request:
        """Draw a request."""

    def alone(self, request: Request) -> Mapping[int, Float[Tensor, "o"]]:
        """Return the answer after each step, in a batch of one from a fresh state."""

    def open(self, slots: int) -> None:
        """Make slots, all of them free."""

    def begin(self, requests: Mapping[int, Request]) -> None:
        """Give slots to requests, together in one batch."""

    def advance(self, slots: Sequence[int]) -> None:
        """Take some steps of the requests in these slots, together in one batch."""

    def answer(self, slot: int) -> Answer | None:
        """Return the newest answer in a slot; None before the first."""

    def free(self, slot: int) -> None:
        """Free a slot, and poison what it held."""
