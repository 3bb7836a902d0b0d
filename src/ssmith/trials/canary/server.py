"""Canary against a running server: many clients at once, some of which go away."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from difflib import SequenceMatcher

import torch

from ssmith.core.checks import check_integer, check_number
from ssmith.core.details import LeakTold
from ssmith.core.errors import InputError
from ssmith.core.progress import Progress, silent
from ssmith.core.seeds import generator
from ssmith.core.words import number_of
from ssmith.trials.canary.endpoint import Completion, Endpoint, Prompt
from ssmith.trials.canary.interleave import AnyCanary, CanaryConfig

_WORDS = (
    "amber", "basin", "cedar", "delta", "ember", "fjord", "glade", "harbor", "island", "jetty",
    "kelp", "lagoon", "meadow", "north", "ocean", "prairie", "quarry", "river", "summit",
    "tundra", "upland", "valley", "willow", "yarrow", "zephyr", "anchor", "beacon", "candle",
    "drum", "engine", "feather", "garden", "hammer", "ink", "jar", "kettle", "ladder", "mirror",
    "needle", "oar", "paper", "quill", "rope", "saddle", "table", "umbrella", "violin", "wagon",
)  # fmt: skip
_TIE = 0.1
"""Nats by which two tokens may differ and still change places when other requests share a batch:
rounding depends on the size of the batch."""
_SUSPECTS, _TRIES, _MOST_LEAKS = 6, 3, 3


@dataclass(frozen=True, kw_only=True)
class ServerConfig:
    """The server, beside how requests are interleaved.

    Args:
        url: of a server that speaks the OpenAI completions shape.
        model: as the server calls it; the first that it names if None.
        timeout: seconds to wait for an answer.
        token_ids: send prompts as random token ids below this number, in place of words.

    Raises:
        InputError: if a value is outside its domain.
    """

    url: str
    model: str | None = None
    timeout: float = 60.0
    token_ids: int | None = None

    def __post_init__(self) -> None:
        check_number("timeout", self.timeout, above=0.0)
        if self.token_ids is not None:
            check_integer("token_ids", self.token_ids, at_least=2)
        self.endpoint()

    def endpoint(self) -> Endpoint:
        """Return the server."""
        return Endpoint(url=self.url, model=self.model, timeout=self.timeout)


@dataclass(frozen=True, kw_only=True)
class ServerLeak:
    """A request that a server answered otherwise than alone; ``other`` is whose presence did it.

    ``repeated``: the two alone show it again.
    """

    request: int
    other: int | None
    repeated: bool
    alone: str
    together: str

    @property
    def text(self) -> str:
        """The leak in one sentence."""
        said = f"{self.together!r} in place of {self.alone!r}"
        if self.other is None:
            return f"request {self.request} is answered {said} after others, with none beside it"
        again = "seen again with the two alone" if self.repeated else "not seen with the two alone"
        return f"request {self.other} leaked into request {self.request}: {said}; {again}"

    def section(self) -> LeakTold:
        """Return it for a receipt."""
        return LeakTold(**vars(self), text=self.text)


@dataclass(kw_only=True)
class ServerCanary(AnyCanary[ServerLeak]):
    """What was seen of a server; ties are answers in which tokens equally likely changed places.

    Seconds are one after the other, and at once, when at most ``at_once`` were under way.
    """

    url: str
    model: str | None
    at_once: int = 0
    ties: int = 0
    seconds: tuple[float, float] = (0.0, 0.0)

    def _told(self) -> str:
        ties = f"; {number_of(self.ties, 'tie')} within rounding" if self.ties else ""
        return (
            f"{self.requests} requests to {self.model or 'the model'} at {self.url}, "
            f"{self.cancelled} of them cancelled, {self.at_once} at a time: each answered as it is "
            f"alone{ties}"
        )


def server_canary(
    server: ServerConfig, config: CanaryConfig, *, progress: Progress = silent
) -> ServerCanary:
    """Ask a server many things at once; each must be answered as it is alone.

    Every prompt is first asked alone, at temperature 0. Then all are asked at once, in random
    order, while some clients go away. Where an answer differs, those that were under way at the
    same time are tried with it again, two at a time. Answers that part where two tokens are as
    likely within rounding, by the server's own log-probabilities, are ties and no leaks. Raises
    `EndpointError` if the server does not answer, or in another form, and `InputError` if it does
    not have the model, or answers one prompt alone in two ways.
    """
    endpoint = _with_model(server.endpoint())
    trial = _Trial(
        endpoint=endpoint, prompts=_prompts(server, config), most=config.following,
        at_once=config.slots,
    )  # fmt: skip
    seen = ServerCanary(url=endpoint.url, model=endpoint.model, requests=config.requests)
    started = time.monotonic()
    alone = trial.alone(progress)
    between = time.monotonic()
    order = torch.randperm(
        config.requests, generator=generator(config.seed, "canary", "order")
    ).tolist()
    draw = generator(config.seed, "canary", "cancels")
    cancels = set(
        (torch.rand(config.requests, generator=draw) < config.cancel).nonzero().flatten().tolist()
    )
    together = trial.together(order, cancels, progress)
    seen.seconds = (between - started, time.monotonic() - between)
    seen.cancelled, seen.at_once = len(cancels), trial.most_at_once
    for number in sorted(together):
        got, wanted = together[number], alone[number]
        if got.answer == wanted.answer:
            continue
        if is_tie(wanted, got):
            seen.ties += 1
        else:
            seen.leaks.append(_explained(trial, number, wanted, got))
        if len(seen.leaks) == _MOST_LEAKS:
            return seen
    for number in range(min(config.slots, config.requests)):
        after = endpoint.complete(trial.prompts[number], config.following)
        if after.answer != alone[number].answer and not is_tie(alone[number], after):
            seen.leaks.append(
                ServerLeak(
                    request=number, other=None, repeated=True, alone=alone[number].text,
                    together=after.text,
                )
            )  # fmt: skip
            break
    return seen


def is_tie(wanted: Completion, got: Completion) -> bool:
    """Return whether two answers part where two tokens are equally likely, within rounding."""
    for place, (first, second) in enumerate(zip(wanted.tokens, got.tokens, strict=False)):
        if first != second:
            tops = wanted.tops[place] if place < len(wanted.tops) else {}
            known = first in tops and second in tops
            return known and abs(tops[first] - tops[second]) <= _TIE
    return False


def _with_model(endpoint: Endpoint) -> Endpoint:
    if endpoint.model is not None:
        return endpoint
    names = endpoint.models()
    return replace(endpoint, model=names[0]) if names else endpoint


def _prompts(server: ServerConfig, config: CanaryConfig) -> list[Prompt]:
    """Draw prompts of unlike lengths, no two alike."""
    found: list[Prompt] = []
    for number in range(config.requests):
        draw = generator(config.seed, "canary", number)
        size = 1 + int(torch.randint(config.longest, (), generator=draw))
        if server.token_ids is not None:
            found.append(torch.randint(1, server.token_ids, (size,), generator=draw).tolist())
        else:
            words = torch.randint(len(_WORDS), (size,), generator=draw).tolist()
            found.append(f"Request {number}: {' '.join(_WORDS[word] for word in words)}")
    return found


@dataclass(kw_only=True)
class _Trial:
    """Prompts, by number, put to one server by so many clients at once."""

    endpoint: Endpoint
    prompts: Sequence[Prompt]
    most: int
    at_once: int
    spans: dict[int, tuple[float, float]] = field(default_factory=dict)
    most_at_once: int = 0
    under_way: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def alone(self, progress: Progress) -> list[Completion]:
        """Ask one prompt after the other, the first twice."""
        first = self.endpoint.complete(self.prompts[0], self.most)
        found = []
        for number, prompt in enumerate(self.prompts):
            found.append(self.endpoint.complete(prompt, self.most))
            progress("alone", number + 1, len(self.prompts))
        if first.answer != found[0].answer and not is_tie(first, found[0]):
            raise InputError(
                f"{self.endpoint.url} answers one prompt in two ways, with nothing beside it: "
                f"{first.text!r} and {found[0].text!r}",
                allowed="a server that answers alike at temperature 0",
                next_step="switch off sampling and speculation on the server",
            )
        return found

    def together(
        self, order: Sequence[int], cancels: set[int], progress: Progress
    ) -> dict[int, Completion]:
        """Ask all prompts at once; return what was answered to those that waited."""
        found: dict[int, Completion] = {}
        with ThreadPoolExecutor(self.at_once) as pool:
            jobs = [(number, pool.submit(self._ask, number, number in cancels)) for number in order]
            try:
                for count, (number, job) in enumerate(jobs, start=1):
                    answer = job.result()
                    if answer is not None:
                        found[number] = answer
                    progress("together", count, len(jobs))
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return found

    def _ask(self, number: int, cancel: bool) -> Completion | None:
        with self.lock:
            self.under_way += 1
            self.most_at_once = max(self.most_at_once, self.under_way)
        started = time.monotonic()
        try:
            if cancel:
                self.endpoint.abandon(self.prompts[number], self.most)
                return None
            return self.endpoint.complete(self.prompts[number], self.most)
        finally:
            with self.lock:
                self.under_way -= 1
                self.spans[number] = (started, time.monotonic())

    def anew(self) -> _Trial:
        """Return the same without what was noted of who was under way when."""
        return _Trial(
            endpoint=self.endpoint, prompts=self.prompts, most=self.most, at_once=self.at_once
        )

    def beside(self, number: int) -> list[int]:
        """Return who was under way at the same time, the longest first."""
        start, end = self.spans[number]
        shared = {
            other: min(end, until) - max(start, since)
            for other, (since, until) in self.spans.items()
            if other != number
        }
        overlapping = [other for other, seconds in shared.items() if seconds > 0]
        return sorted(overlapping, key=lambda other: -shared[other])


def _explained(trial: _Trial, number: int, wanted: Completion, got: Completion) -> ServerLeak:
    """Look for the one other request that does it: first those whose words are in the answer."""
    leak = ServerLeak(
        request=number, other=None, repeated=False, alone=wanted.text, together=got.text
    )
    suspects = trial.beside(number)
    suspects.sort(key=lambda other: -_shared(trial.prompts[other], got.text))
    for other in suspects[:_SUSPECTS]:
        for _ in range(_TRIES):
            again = trial.anew().together([other, number], set(), silent)[number]
            if again.answer != wanted.answer and not is_tie(wanted, again):
                return replace(leak, other=other, repeated=True)
    return replace(leak, other=suspects[0]) if suspects else leak


def _shared(prompt: Prompt, text: str) -> int:
    """Return the length of the longest stretch of a prompt that stands in a text."""
    if not isinstance(prompt, str):
        return 0
    return SequenceMatcher(None, prompt, text, autojunk=False).find_longest_match().size
