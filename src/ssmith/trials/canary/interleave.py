"""Requests interleaved at random, each answer held against the one that is given alone."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from ssmith.core.checks import check_integer, check_number
from ssmith.core.details import CanaryDetails, LeakTold
from ssmith.core.files import finite_or_none
from ssmith.core.progress import Progress, silent
from ssmith.core.seeds import generator
from ssmith.trials.canary.subject import Interleavable, Request

_MOST_LEAKS = 3
_TRIES = 4


@dataclass(frozen=True, kw_only=True)
class CanaryConfig:
    """How requests are interleaved.

    Args:
        requests: how many, ≥ 2.
        slots: at most so many at a time, ≥ 2.
        cancel: share of the requests whose client goes away before the end, in [0, 1).
        longest: steps of a sequence, or tokens of a prompt, at most, ≥ 1.
        following: tokens that follow a prompt, ≥ 1.
        seed: of everything random.

    Raises:
        InputError: if a value is outside its domain.
    """

    requests: int = 200
    slots: int = 8
    cancel: float = 0.2
    longest: int = 24
    following: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("requests", "slots"):
            check_integer(name, getattr(self, name), at_least=2)
        for name in ("longest", "following"):
            check_integer(name, getattr(self, name), at_least=1)
        check_integer("seed", self.seed, at_least=0)
        check_number("cancel", self.cancel, at_least=0.0, below=1.0)


@dataclass(frozen=True, kw_only=True)
class Leak:
    """A request that was not answered as it is alone.

    Args:
        request: its number.
        other: number of the request whose presence changed it; None if it needs none.
        how: what the two shared.
        done: steps after which it was seen.
        difference: of the answers, in units of the largest; infinite if one is not finite.
        repeated: whether the two alone show it again.
    """

    request: int
    other: int | None
    how: str
    done: int
    difference: float
    repeated: bool

    @property
    def text(self) -> str:
        """The leak in one sentence."""
        size = (
            f"differs by {self.difference:.2g} of the largest output"
            if math.isfinite(self.difference)
            else "is not finite"
        )
        other = "" if self.other is None else f" request {self.other} leaked into it: "
        again = "seen again with the two alone" if self.repeated else "not seen with the two alone"
        told = f"{self.how}; {again}" if self.other is not None else self.how
        return f"request {self.request} after {self.done} steps {size};{other} {told}"

    def section(self) -> LeakTold:
        """Return it for a receipt."""
        difference = finite_or_none(self.difference)
        return LeakTold(**{**vars(self), "difference": difference, "text": self.text})


@runtime_checkable
class AnyLeak(Protocol):
    """A request that was not answered as it is alone, of whatever was asked."""

    @property
    def text(self) -> str:
        """The leak in one sentence."""

    def section(self) -> LeakTold:
        """Return it for a receipt."""


Found = TypeVar("Found", bound=AnyLeak)


@dataclass(kw_only=True)
class AnyCanary(ABC, Generic[Found]):
    """What was seen of requests that were made at once; leaks are answered otherwise than alone."""

    requests: int
    cancelled: int = 0
    leaks: list[Found] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether every request was answered as it is alone."""
        return not self.leaks

    @property
    def headline(self) -> str:
        """What was seen, in one sentence."""
        return self._told() if self.passed else self.leaks[0].text

    @abstractmethod
    def _told(self) -> str:
        """Return the headline where nothing leaked."""

    def section(self) -> CanaryDetails:
        """Return it for a receipt."""
        leaks = tuple(leak.section() for leak in self.leaks)
        return CanaryDetails(**{**self._own(), "leaks": leaks, "passed": self.passed})

    def _own(self) -> dict[str, Any]:
        return vars(self)


@dataclass(kw_only=True)
class CanaryRun(AnyCanary[Leak]):
    """What was seen of a model: calls, sizes of batches, and slots that were given out again.

    ``carries`` says whether states were carried, ``tolerance`` what rounding may do, ``worst`` the
    largest difference that passed.
    """

    subject: str
    carries: bool
    tolerance: float
    calls: int = 0
    sizes: set[int] = field(default_factory=set)
    reused: int = 0
    worst: float = 0.0

    def _told(self) -> str:
        return (
            f"{self.requests} requests, {self.cancelled} of them cancelled, each answered as it is "
            f"alone (largest difference {self.worst:.2g}, rounding may do {self.tolerance:.2g})"
        )

    def _own(self) -> dict[str, Any]:
        return {**vars(self), "sizes": tuple(sorted(self.sizes))}


def interleave(
    subject: Interleavable, config: CanaryConfig, *, progress: Progress = silent
) -> CanaryRun:
    """Interleave requests at random, with cancels, in slots that are used again and again.

    After three leaks the rest is not run.
    """
    seen = CanaryRun(
        subject=subject.name,
        requests=config.requests,
        carries=subject.carries,
        tolerance=subject.tolerance,
    )
    draw = generator(config.seed, "canary", "cancels")
    share = config.cancel if subject.carries else 0.0
    cancels = (torch.rand(config.requests, generator=draw) < share).tolist()
    requests = [subject.draw(number, cancels[number]) for number in range(config.requests)]
    first = [(request, subject.alone(request)) for request in requests[: config.slots]]
    schedule = _Schedule(slots=config.slots, seed=config.seed)
    found = list(islice(_run(subject, requests, schedule, seen, progress), _MOST_LEAKS))
    seen.leaks += [_explained(subject, item, schedule) for item in found]
    if found:
        return seen
    for request, before in first:
        after = subject.alone(request)
        worst = max(_difference(after[done], before[done]) for done in before)
        if not worst <= seen.tolerance:
            seen.leaks.append(
                Leak(
                    request=request.number, other=None, done=request.length, difference=worst,
                    how="alone it is answered otherwise after others than before them",
                    repeated=True,
                )
            )  # fmt: skip
            break
    return seen


@dataclass(frozen=True, kw_only=True)
class _Schedule:
    slots: int
    seed: int


@dataclass(frozen=True, kw_only=True)
class _Difference:
    request: Request
    done: int
    size: float
    beside: tuple[Request, ...]
    before: Request | None


@dataclass(kw_only=True)
class _Table:
    """Who holds which slot, and who held it before."""

    free: list[int]
    held: dict[int, Request] = field(default_factory=dict)
    alone: dict[int, Mapping[int, Tensor]] = field(default_factory=dict)
    former: dict[int, Request] = field(default_factory=dict)

    def leave(self, slot: int) -> Request:
        """Take a request out of its slot."""
        request = self.held.pop(slot)
        del self.alone[slot]
        self.former[slot] = request
        self.free.append(slot)
        return request


def _run(
    subject: Interleavable,
    requests: Sequence[Request],
    schedule: _Schedule,
    seen: CanaryRun,
    progress: Progress = silent,
) -> Iterator[_Difference]:
    draw = generator(schedule.seed, "canary", "order")
    waiting, table = deque(requests), _Table(free=list(range(schedule.slots)))
    subject.open(schedule.slots)
    while waiting or table.held:
        begins = bool(waiting and table.free) and (not table.held or _number(draw, 2) == 0)
        chosen = _begin(subject, waiting, table, draw, seen) if begins else []
        if not (begins and subject.carries):
            chosen = _some([*table.held], draw)
            subject.advance(chosen)
        seen.calls += 1
        seen.sizes.add(len(chosen))
        beside = tuple(table.held[slot] for slot in chosen)
        for slot in chosen:
            found = _held_against(subject, table, slot, beside, seen)
            if found is not None:
                yield found
            answer = subject.answer(slot)
            done = -1 if answer is None else answer.done
            if found is not None or done >= table.held[slot].last:
                request = table.leave(slot)
                seen.cancelled += request.cancelled is not None and found is None
                subject.free(slot)
                over = len(requests) - len(waiting) - len(table.held)
                progress("requests", over, len(requests))


def _begin(
    subject: Interleavable,
    waiting: deque[Request],
    table: _Table,
    draw: torch.Generator,
    seen: CanaryRun,
) -> list[int]:
    count = 1 + _number(draw, min(len(waiting), len(table.free)))
    batch = {
        table.free.pop(_number(draw, len(table.free))): waiting.popleft() for _ in range(count)
    }
    seen.reused += sum(slot in table.former for slot in batch)
    table.alone |= {slot: subject.alone(request) for slot, request in batch.items()}
    subject.begin(batch)
    table.held |= batch
    return list(batch)


def _held_against(
    subject: Interleavable, table: _Table, slot: int, beside: tuple[Request, ...], seen: CanaryRun
) -> _Difference | None:
    answer, request = subject.answer(slot), table.held[slot]
    if answer is None:
        return None
    size = _difference(answer.output, table.alone[slot][answer.done])
    if size <= seen.tolerance:
        seen.worst = max(seen.worst, size)
        return None
    others = tuple(item for item in beside if item is not request)
    return _Difference(
        request=request, done=answer.done, size=size, beside=others, before=table.former.get(slot)
    )


def _explained(subject: Interleavable, found: _Difference, like: _Schedule) -> Leak:
    """Look for the one other request that does it: those beside it, and who held its slot."""
    suspects = [(other, "they ran in one batch", 2) for other in found.beside]
    if found.before is not None:
        suspects.append((found.before, "it held the same slot before", 1))
    for other, how, slots in suspects:
        for attempt in range(_TRIES):
            again = CanaryRun(
                subject=subject.name, requests=2, carries=subject.carries,
                tolerance=subject.tolerance,
            )  # fmt: skip
            alone = _Schedule(slots=slots, seed=like.seed + attempt)
            if any(True for _ in _run(subject, [other, found.request], alone, again)):
                return _leak(found, other, how, repeated=True)
    if not suspects:
        return _leak(found, None, "no other request was near it", repeated=False)
    return _leak(found, suspects[0][0], suspects[0][1], repeated=False)


def _leak(found: _Difference, other: Request | None, how: str, *, repeated: bool) -> Leak:
    return Leak(
        request=found.request.number, other=None if other is None else other.number, how=how,
        done=found.done, difference=found.size, repeated=repeated,
    )  # fmt: skip


def _difference(got: Float[Tensor, "o"], wanted: Float[Tensor, "o"]) -> float:
    """Return the largest difference in units of the largest output; infinite if not finite."""
    if not bool(got.isfinite().all()) or not bool(wanted.isfinite().all()):
        return math.inf
    scale = wanted.abs().max().clamp_min(1.0)
    return float((got - wanted).abs().max() / scale)


def _number(draw: torch.Generator, below: int) -> int:
    return int(torch.randint(below, (), generator=draw))


def _some(slots: list[int], draw: torch.Generator) -> list[int]:
    """Draw some slots, in any order: a batch of any size from one to all."""
    order = torch.randperm(len(slots), generator=draw).tolist()
    return [slots[place] for place in order[: 1 + _number(draw, len(slots))]]
