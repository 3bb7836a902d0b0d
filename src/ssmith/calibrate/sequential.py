"""The pass: site after site, each measured, cut, and run again for those behind it.

Every site sees what the cut sites before it really make, under the semantics they were cut with:
what is measured is the network that will be used. The network itself is never changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ssmith.calibrate.part import DENSE, PartRun, RowBatch
from ssmith.calibrate.passages import Passage, Segment
from ssmith.calibrate.shards import Group
from ssmith.calibrate.sites import engaged, view_of
from ssmith.calibrate.stages import PassConfig, Stages
from ssmith.calibrate.store import DirectoryStore, MemoryStore, PassStore
from ssmith.core.errors import NumericalError
from ssmith.core.progress import Progress, silent
from ssmith.core.rows import Rows
from ssmith.core.selective import BlockRecord
from ssmith.core.trees import digest_of
from ssmith.families.state import SiteState, restore_, state_of
from ssmith.ops.reuse import reused_memory


@dataclass(frozen=True, kw_only=True)
class PassResult:
    """What a pass leaves: what every stage decided, in order, and what became of each site.

    States are by name in the order in which they ran, read from the working directory where there
    is one; none after a pass that only measures.
    """

    records: tuple[BlockRecord, ...]
    states: Mapping[str, SiteState]


@torch.no_grad()
@reused_memory()
def run_pass(
    passage: Passage,
    stages: Stages,
    config: PassConfig | None = None,
    *,
    reference: bool = False,
    progress: Progress = silent,
    what: str = "calibrating",
) -> PassResult:
    """Take the sites of a network one after the other through some stages.

    Per site: each stage runs all rows up to the site as the network is by then, decides and writes
    into a copy of it. Under torch.distributed each process runs its share of the rows, and all of
    them decide the same.

    Args:
        passage: the way of the rows through the network (see `passage_of`).
        stages: what is done to a site, given its view.
        config: see `PassConfig`.
        reference: run the dense network beside it, for stages that read what a site should give.
        progress: listener.
        what: what it is told the pass does.

    Returns:
        What was decided, and what became of the sites.

    Raises:
        InputError: if the working directory holds another pass, processes cannot share it, or masks
            do not fit.
        NumericalError: if a number leaves the finite ones, or processes decide differently.
    """
    chosen = config or PassConfig()
    done = _Pass(
        passage, stages, chosen, reference=reference, meter=_Meter(progress, what, passage)
    )
    return done.run()


class _Pass:
    def __init__(
        self,
        passage: Passage,
        stages: Stages,
        config: PassConfig,
        *,
        reference: bool,
        meter: _Meter,
    ) -> None:
        self._passage, self._stages, self._config = passage, stages, config
        self._group = Group.current()
        self._store = store_of(config, passage)
        self._reference, self._meter = reference, meter
        self._names = sites_in(passage)
        self._batched = list(_batches(self._group, passage.rows, config.at_once()))
        self._done = self._names[: self._store.finished()]
        self._records: list[BlockRecord] = []

    def run(self) -> PassResult:
        """Go on from what the store holds to the last part with a site."""
        parts, done = self._passage.parts, len(self._done)
        last = max(index for index, part in enumerate(parts) if part.sites)
        for site in self._done:
            self._records += self._store.outcome(site)[1]
        begin = self._begin(done)
        for index in range(begin):
            # A run that was killed as it dropped them has left some that nobody reads again.
            self._store.drop(index, self._flowing())
        for index in range(begin, last + 1):
            self._part(index, parts[index], last=index == last)
        # What became of the sites is read when the first process has written it.
        self._group.gather("done")
        self._meter.end()
        states = {} if not self._config.lasting else _States(self._store, self._names)
        return PassResult(records=tuple(self._records), states=states)

    def _begin(self, done: int) -> int:
        """Return the part to begin at: the latest whose input is there, or can be made anew."""
        parts, ahead = self._passage.parts, self._names[done:]
        if not ahead:
            return len(parts)
        index = next(place for place, part in enumerate(parts) if ahead[0] in part.sites)
        batches = self._flowing()
        while index and not self._store.holds(index, batches):
            index -= 1
        return index

    def _flowing(self) -> list[str]:
        names = [batch.name for batch in self._batched if batch.items]
        beside = self._reference and self._config.order == "sequential"
        return [*names, *(DENSE + name for name in names)] if beside else names

    def _part(self, index: int, part: Segment, *, last: bool) -> None:
        together, passage = self._config.order == "together", self._passage
        with ExitStack() as stack:
            work = stack.enter_context(passage.hold(index, own=True))
            dense = work
            if together or self._reference or isinstance(self._store, MemoryStore):
                dense = stack.enter_context(passage.hold(index, own=False))
            sites = {site: work.get_submodule(part.inner(site)) for site in part.sites}
            stack.enter_context(engaged(work))
            if dense is not work:
                stack.enter_context(engaged(dense))
            run = PartRun(
                passage=passage, index=index, part=part, work=work, dense=dense, sites=sites,
                batches=self._batched, store=self._store, group=self._group, config=self._config,
                reference=self._reference, looked=self._meter.add,
            )  # fmt: skip
            todo = self._restored(sites)
            for names in [todo] if together else [[name] for name in todo]:
                if names:
                    self._sites(run, names, propagates=not last and names[-1] == part.sites[-1])
            if last:
                run.drop()
            else:
                run.propagate()

    def _restored(self, sites: Mapping[str, Any]) -> list[str]:
        """Give the sites that are done what became of them; return the others."""
        for name in sites:
            if name in self._done:
                restore_(sites[name], self._store.outcome(name)[0])
        return [name for name in sites if name not in self._done]

    def _sites(self, run: PartRun, names: Sequence[str], *, propagates: bool) -> None:
        """Take some sites through their stages, all of them at once."""
        views = {name: view_of(name, run.sites[name]) for name in names}
        todo = {name: list(self._stages(view)) for name, view in views.items()}
        rounds = max(map(len, todo.values()))
        self._meter.expect(names, run.looks(todo.values(), propagates=propagates))
        records: dict[str, list[BlockRecord]] = {name: [] for name in names}
        for turn in range(rounds):
            now = {name: own[turn] for name, own in todo.items() if turn < len(own)}
            for name, totals in run.totals(now, views).items():
                record = now[name].apply(views[name], totals)
                if self._config.order == "together":
                    record = replace(record, facts={**record.facts, "order": "together"})
                records[name].append(record)
                run.kept.narrow(name, now[name].keeps)
        for name in names:
            state = _lean(state_of(run.sites[name]), run, name)
            _check_same(state.tensors, name, self._group)
            self._store.finish(name, state, records[name])
            self._records += records[name]


def _lean(state: SiteState, run: PartRun, name: str) -> SiteState:
    """Return a state that shares with the dense site what did not change."""
    if run.dense is run.work:
        return state
    own = run.dense.get_submodule(run.part.inner(name)).state_dict()
    same = {
        key: own[key].detach()
        for key, value in state.tensors.items()
        if key in own and own[key].device == value.device and torch.equal(own[key], value)
    }
    return replace(state, tensors={**state.tensors, **same})


class _Meter:
    """Tells how far a pass is, also within a site, by the batches that were looked at."""

    def __init__(self, progress: Progress, what: str, passage: Passage) -> None:
        self._told = partial(progress, what)
        self._sites = sites_in(passage)
        self._names: Sequence[str] = self._sites[:1]
        self._seen, self._all = 0, 1

    def expect(self, names: Sequence[str], looks: int) -> None:
        """Take so many looks as the whole of some sites."""
        self._names, self._seen, self._all = names, 0, max(looks, 1)
        self.add(0)

    def add(self, count: int = 1) -> None:
        """Count looks."""
        self._seen += count
        # A site is done when it is stored, not when it has seen its last batch.
        share = min(self._seen / self._all, 0.99) * len(self._names)
        done = self._sites.index(self._names[0]) + share
        self._told(done, len(self._sites), self._names[0])

    def end(self) -> None:
        """Tell that all is done."""
        self._told(len(self._sites), len(self._sites), "")


def sites_in(passage: Passage) -> list[str]:
    """Return the names of all sites, in the order in which they run."""
    return [site for part in passage.parts for site in part.sites]


def store_of(config: PassConfig, passage: Passage) -> PassStore:
    """Return where a pass keeps what it has done.

    In a working directory the first process begins before the others.
    """
    if config.work_dir is None:
        return MemoryStore(lasting=config.lasting)
    group, sites = Group.current(), sites_in(passage)
    # The directory of a pass that only measures belongs to one process.
    first = group.rank == 0 or not config.lasting
    store = DirectoryStore(
        directory=config.work_dir,
        identity={
            **config.identity,
            "rows": passage.rows.fingerprint,
            "order": config.order,
            "sites": sites,
        },
        sites=sites,
        writes=first,
        lasting=config.lasting,
    )
    if first:
        store.open()
    group.gather("open")
    if not first:
        store.open()
    return store


def _batches(group: Group, rows: Rows, size: int) -> Iterator[RowBatch]:
    """Yield the batches of this process, an empty one for a shard without rows."""
    for shard, items in group.shards(len(rows)):
        for part in rows.ranges(size, items) if items else [items]:
            yield RowBatch(name=f"{shard}-{part.start:06}", shard=shard, items=part)


def _check_same(tensors: Mapping[str, Tensor], site: str, group: Group) -> None:
    """Raise unless all processes made the same of a site."""
    if group.size > 1 and len(set(group.gather(digest_of(dict(sorted(tensors.items())))))) > 1:
        raise NumericalError(
            f"{site}: processes decided differently",
            next_step="run them on machines of one kind with the same versions",
        )


@dataclass(frozen=True)
class _States(Mapping[str, SiteState]):
    store: PassStore
    names: Sequence[str]

    def __getitem__(self, name: str) -> SiteState:
        return self.store.outcome(name)[0]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)
