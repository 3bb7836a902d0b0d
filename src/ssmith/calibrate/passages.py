"""Where sites get their inputs: blocks, one after the other, or the whole network again and again.

A network is a chain if all its sites lie in the blocks of one container, and each block is given
what the one before returns; whatever else it is given does not depend on other blocks.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from ssmith.calibrate.chains import Trace, blocks_of, given_alone, inside, replaced
from ssmith.calibrate.observe import called_with, observe
from ssmith.calibrate.sites import engaged, measurable
from ssmith.core.errors import InputError, UnsupportedError
from ssmith.core.rows import Rows
from ssmith.core.running import evaluating
from ssmith.core.trees import mapped, tensors_in
from ssmith.families.absent import held, source_of, streaming


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A part of a network that is held at once: its name, and its sites in the order of running."""

    name: str
    sites: tuple[str, ...]

    def inner(self, site: str) -> str:
        """Return a site's name as seen from the part."""
        if site == self.name:
            return ""
        return site.removeprefix(f"{self.name}.") if self.name else site


@runtime_checkable
class Passage(Protocol):
    """The way of some rows through a network."""

    @property
    def rows(self) -> Rows:
        """What runs through."""

    @property
    def parts(self) -> tuple[Segment, ...]:
        """The parts, in the order in which they run."""

    @property
    def calls(self) -> Mapping[str, int] | None:
        """How often a batch calls each site; None where that is to be counted in each."""

    @property
    def streams(self) -> bool:
        """Whether a part is given a stream that its sites add to."""

    def hold(self, index: int, *, own: bool) -> AbstractContextManager[nn.Module]:
        """Hold a part inside the ``with``: a copy that may be changed, or the dense one."""

    def start(self, items: range) -> Any:
        """Return what the first part is given for some rows."""

    def run(self, module: nn.Module, given: Any) -> Any:
        """Run a part, and return what the next one is given."""

    def flowing(self, given: Any) -> tuple[Tensor, ...]:
        """Return those tensors of what a part is given that the one before made."""

    def joined(self, index: int, items: range, flowing: Sequence[Tensor]) -> Any:
        """Return what part ``index`` is given, from what the one before made of some rows."""


@dataclass(frozen=True, kw_only=True)
class Network:
    """A whole network, run again for every site."""

    model: nn.Module
    rows: Rows
    sites: tuple[str, ...]
    calls: ClassVar[None] = None
    streams: ClassVar[bool] = False

    @property
    def parts(self) -> tuple[Segment, ...]:
        """One part with all sites."""
        return (Segment(name="", sites=self.sites),)

    @contextmanager
    def hold(self, index: int, *, own: bool) -> Iterator[nn.Module]:
        if own:
            yield copy.deepcopy(self.model).eval()
            return
        with evaluating(self.model):
            yield self.model

    def start(self, items: range) -> Any:
        return self.rows.batch(items)

    def run(self, module: nn.Module, given: Any) -> Any:
        return self.rows.forward(module, given)

    def flowing(self, given: Any) -> tuple[Tensor, ...]:
        return ()

    def joined(self, index: int, items: range, flowing: Sequence[Tensor]) -> Any:
        return self.start(items)


@dataclass(frozen=True, kw_only=True)
class Chain:
    """The blocks of a network, in memory or read one by one.

    ``flows`` are those of `Trace`, ``calls`` says how often a batch calls each site; ``returned``
    is what a block returns where blocks are not all given the same beside it, else None.
    """

    model: nn.Module
    rows: Rows
    parts: tuple[Segment, ...]
    calls: Mapping[str, int]
    flows: Mapping[int, int] = field(default_factory=dict)
    returned: Any = None
    _beside: dict[range, list[Any]] = field(default_factory=dict, repr=False)
    streams: ClassVar[bool] = True

    @contextmanager
    def hold(self, index: int, *, own: bool) -> Iterator[nn.Module]:
        with held(self.model, self.parts[index].name, own=own) as block, evaluating(block):
            yield block

    def start(self, items: range) -> Any:
        batch = self.rows.batch(items)
        first = self.model.get_submodule(self.parts[0].name)
        with self._running():
            given = called_with(first, lambda: self.rows.forward(self.model, batch))
        if self.returned is None:
            self._beside.setdefault(items, [self._without_flow(given)])
        return given

    def run(self, module: nn.Module, given: Any) -> Any:
        args, kwargs = given
        made = list(tensors_in(module(*args, **kwargs)))
        return replaced(given, {place: made[source] for place, source in self.flows.items()})

    def flowing(self, given: Any) -> tuple[Tensor, ...]:
        found = list(tensors_in(given))
        return tuple(found[place] for place in sorted(self.flows))

    def joined(self, index: int, items: range, flowing: Sequence[Tensor]) -> Any:
        if items not in self._beside:
            self._beside[items] = [self._without_flow(given) for given in self._given(items)]
        beside = self._beside[items]
        given = beside[min(index, len(beside) - 1)]
        return replaced(given, dict(zip(sorted(self.flows), flowing, strict=True)))

    def _without_flow(self, given: Any) -> Any:
        """Return what a block is given beside what flows, which is not held twice."""
        return replaced(given, {place: torch.empty(0) for place in self.flows})

    def _given(self, items: range) -> list[Any]:
        """Return what each block is given beside what flows; the first one's stands for all."""
        if self.returned is None:
            return [self.start(items)]
        batch, names = self.rows.batch(items), [part.name for part in self.parts]
        with self._running():
            return given_alone(
                self.model, names, self.returned, lambda: self.rows.forward(self.model, batch)
            )

    @contextmanager
    def _running(self) -> Iterator[None]:
        """Run what is beside the blocks, which need no weights."""
        with (
            evaluating(self.model), engaged(self.model),
            streaming(self.model, blocks=False),
        ):  # fmt: skip
            yield


@torch.no_grad()
def passage_of(
    model: nn.Module,
    rows: Rows,
    sites: Collection[str] | Mapping[str, nn.Module] | None = None,
) -> Chain | Network:
    """Find the way of some rows through a network, by a forward pass over the first of them.

    It is a chain of blocks where the network is one and no site is part of two of them, else the
    whole network; ``sites`` are those in question, all of the network's if None. A mapping names
    modules that are no sites, but what one of a site's units flows into.
    """
    found = dict(sites) if isinstance(sites, Mapping) else _chosen(model, sites)
    blocks = blocks_of(model, found)
    trace = Trace()
    batch = rows.batch(rows.ranges(1)[0])
    with evaluating(model), engaged(model), streaming(model), trace.watching(model, blocks):
        calls = observe(lambda: rows.forward(model, batch), found)
    silent = [name for name, own in calls.items() if not own]
    if silent:
        raise UnsupportedError(
            f"{silent[0]} is not called in the first batch", allowed="sites that data reach",
            next_step="leave it out, or give rows that reach it",
        )  # fmt: skip
    order = sorted(found, key=lambda name: calls[name][0].place)
    chained = blocks and trace.names == blocks and not _stand_twice(model, found)
    returned, flows = None, trace.flows
    if chained and flows is None and _is_handed_on(model, rows, trace):
        returned, flows = mapped(trace.returned, lambda item: item.new_empty(0)), {0: 0}
    if not chained or flows is None:
        if source_of(model) is not None:
            raise UnsupportedError(
                f"the blocks of {type(model).__name__} are given what depends on other blocks",
                allowed="networks whose blocks hand on one stream", next_step="prune it in memory",
            )  # fmt: skip
        return Network(model=model, rows=rows, sites=tuple(order))
    parts = tuple(
        Segment(name=name, sites=tuple(site for site in order if inside(site, name)))
        for name in blocks
    )
    numbers = {name: len(own) for name, own in calls.items()}
    return Chain(model=model, rows=rows, parts=parts, calls=numbers, flows=flows, returned=returned)


def _is_handed_on(model: nn.Module, rows: Rows, trace: Trace) -> bool:
    """Return whether what blocks are given beside one stream does not depend on other blocks."""
    batch = rows.batch(rows.ranges(1)[0])
    with evaluating(model), engaged(model), streaming(model, blocks=False):
        alone = given_alone(model, trace.names, trace.returned, lambda: rows.forward(model, batch))
    return trace.handed_on(alone)


def _chosen(model: nn.Module, sites: Collection[str] | None) -> dict[str, nn.Module]:
    found = measurable(model)
    if sites is None:
        return found
    unknown = sorted(set(sites) - set(found))
    if unknown:
        raise InputError(f"there is no site {unknown[0]}", allowed=", ".join(found))
    return {name: found[name] for name in found if name in sites}


def _stand_twice(model: nn.Module, sites: Mapping[str, nn.Module]) -> bool:
    """Return whether a site stands in several places of a network under different names."""
    times = Counter(id(module) for _, module in model.named_modules(remove_duplicate=False))
    return any(times[id(site)] > 1 for site in sites.values())
