"""One part of a network during a pass: rows run up to its sites, and through it when it is done."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ssmith.calibrate.behind import last_linear, scale_in_stream
from ssmith.calibrate.flow import Flow, flows_of, joined, shared
from ssmith.calibrate.kept import Held, Kept
from ssmith.calibrate.observe import Call, answering, more_calls, observe
from ssmith.calibrate.passages import Passage, Segment
from ssmith.calibrate.shards import Group, ShardSum, added, appended
from ssmith.calibrate.sites import LTIView, View
from ssmith.calibrate.stages import PassConfig, Stage
from ssmith.calibrate.store import PassStore
from ssmith.core.errors import NumericalError, UnsupportedError
from ssmith.core.selective import Statistics, Totals
from ssmith.core.trees import place_of
from ssmith.families.lti import LTILayer
from ssmith.families.mamba.selective import MixerParts, SelectiveLayer
from ssmith.families.mamba2.grouped import GroupedLayer, GroupedParts
from ssmith.families.output import OutputMap, OutputParts
from ssmith.families.parts.convolving import at_least_float32
from ssmith.families.parts.padding import Padding
from ssmith.families.routed import ExpertLayer

Mixer = SelectiveLayer | GroupedLayer | ExpertLayer | OutputMap
Parts = MixerParts | GroupedParts | OutputParts

DENSE = "dense-"


@dataclass(frozen=True)
class RowBatch:
    """Some rows that run together; its name does not depend on the number of processes."""

    name: str
    shard: int
    items: range


@dataclass(kw_only=True)
class PartRun:
    """A part that is held, and what runs through it.

    ``work`` is its copy, which is cut, and holds ``sites``; ``dense`` the part as it was, or
    ``work`` where nobody asks for it. ``reference`` says whether recordings hold what the dense
    site gives; ``looked`` is called for each batch that was looked at.
    """

    passage: Passage
    index: int
    part: Segment
    work: nn.Module
    dense: nn.Module
    sites: Mapping[str, nn.Module]
    batches: Sequence[RowBatch]
    store: PassStore
    group: Group
    config: PassConfig
    reference: bool
    looked: Callable[[], None]
    kept: Kept = field(init=False)
    _counts: dict[str, dict[str, int]] = field(default_factory=dict)
    _scales: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.kept = Kept(self.config.kept_bytes)

    @property
    def together(self) -> bool:
        """Whether sites are measured in the dense network."""
        return self.config.order == "together"

    def looks(self, todo: Iterable[Sequence[Stage]], *, propagates: bool) -> int:
        """Return how many batches will be looked at for some sites' stages."""
        turns = [[stage.collect is not None for stage in stages] for stages in todo]
        looks = max(map(sum, turns), default=0)
        return sum(bool(batch.items) for batch in self.batches) * (looks + propagates)

    def totals(self, stages: Mapping[str, Stage], views: Mapping[str, View]) -> dict[str, Totals]:
        """Return what stages gather of all rows, each at its own site."""
        found = {name: Totals(sums={}) for name in stages}
        for gather, by_batch in ((self._whole, False), (self._summed, True)):
            asked = {
                name: stage
                for name, stage in stages.items()
                if stage.collect and stage.whole_batch is not by_batch
            }
            if asked:
                found |= gather(asked, views)
        for name, totals in found.items():
            _check_finite(totals.sums, name, stages[name].name)
        return found

    def propagate(self) -> None:
        """Run the finished part, and keep what the next one is given."""
        for batch in self.batches:
            if batch.items:
                # In memory what the work hands on stands in the place of what both were given.
                if self.reference and not self.together:
                    self._propagate(batch, DENSE, self.dense)
                self._propagate(batch, "", self.dense if self.together else self.work)
                self.looked()
        self.drop()

    def drop(self) -> None:
        """Forget what the part was given: it is done."""
        names = [batch.name for batch in self.batches]
        self.store.drop(self.index, [*names, *(DENSE + name for name in names)])

    def _propagate(self, batch: RowBatch, kind: str, module: nn.Module) -> None:
        given, made = self._given(batch, kind), []
        asked = {} if module is not self.work else dict(self.sites)
        with ExitStack() as stack:
            for name, site in list(asked.items()):
                held = self.kept.take(name, batch.name)
                if held is not None:
                    del asked[name]
                    answer = partial(SelectiveLayer(name, site).output, held.branches)
                    stack.enter_context(answering(name, site, answer))
            calls = observe(lambda: made.append(self.passage.run(module, given)), asked)
        counts = self.passage.calls or {}
        for name, own in calls.items():
            if len(own) != counts.get(name, len(own)):
                raise more_calls(name)
        self.store.write(self.index + 1, kind + batch.name, self.passage.flowing(made[0]))

    def _given(self, batch: RowBatch, kind: str = "") -> Any:
        """Return what the part is given of a batch; what the first one is given is made once."""
        if self.index == 0:
            # Nothing before it was cut, and the dense network is given the same.
            kind = ""
            if not (self.passage.streams and self.store.holds(0, [batch.name])):
                given = self.passage.start(batch.items)
                if self.passage.streams:
                    self.store.write(0, batch.name, self.passage.flowing(given))
                return given
        return self.passage.joined(self.index, batch.items, self._flowing(batch, kind))

    def _flowing(self, batch: RowBatch, kind: str) -> list[Tensor]:
        """Return those tensors of what the part is given that the one before made."""
        device = place_of(self.work)
        return [item.to(device) for item in self.store.read(self.index, kind + batch.name)]

    def _summed(self, stages: Mapping[str, Stage], views: Mapping[str, View]) -> dict[str, Totals]:
        totals = {name: ShardSum(stage.samples) for name, stage in stages.items()}
        sums: dict[str, Statistics | None] = dict.fromkeys(stages)
        for place, batch in enumerate(self.batches):
            if batch.items:
                for name, streams in self._streams(stages, views, batch):
                    collect = stages[name].collect
                    if collect is not None:
                        more = appended if stages[name].samples else added
                        sums[name] = more(sums[name], collect(views[name], streams))
                self.looked()
            after = self.batches[place + 1 : place + 2]
            if not after or after[0].shard != batch.shard:
                for name, total in totals.items():
                    total.add(batch.shard, sums[name])
                    sums[name] = None
        return {name: total.totals(self.group) for name, total in totals.items()}

    def _streams(
        self, stages: Mapping[str, Stage], views: Mapping[str, View], batch: RowBatch
    ) -> Iterator[tuple[str, Any]]:
        """Yield what flows through sites in one batch, call by call."""
        held = {
            name: self.kept.get(name, batch.name) for name, stage in stages.items() if stage.keeps
        }
        missing = [name for name in stages if held.get(name) is None]
        flows = self._flows(missing, batch) if missing else {}
        for name, stage in stages.items():
            view, kept = views[name], held.get(name)
            if isinstance(view, SelectiveLayer) and kept is not None:
                own = view.parts_of(kept.branches, kept.valid)
                yield name, self._with_residual(own, batch, own.x.shape[:2])
            for flow in flows.get(name, ()):
                if isinstance(view, LTIView):
                    yield name, flow.recording()
                else:
                    once = len(flows[name]) == 1
                    parts = self._parts(view, stage, flow.sorted(), batch.name if once else "")
                    if stage.behind:
                        parts = self._with_lacking(view, parts, flow, batch)
                    yield name, self._with_residual(parts, batch, flow.given.shape[:2])

    def _parts(self, layer: Mixer, stage: Stage, flow: Flow, key: str) -> Parts:
        """Return what flows through a mixer, and keep what is not to be computed again."""
        if not isinstance(layer, SelectiveLayer) or not stage.keeps:
            return layer.parts(flow.given, flow.valid)
        branches = layer.branches(flow.given)
        if key and not flow.moved:
            self.kept.offer(layer.name, key, Held(branches, flow.valid))
        return replace(layer.parts_of(branches, flow.valid), hidden=flow.given)

    def _with_residual(self, parts: Parts, batch: RowBatch, shape: torch.Size) -> Parts:
        """Return the parts of a site with what its block is given, if that is a stream so long."""
        if not self.passage.streams or self.part.name in self.part.sites:
            return parts
        residual = self._flowing(batch, "")[0]
        alike = residual.ndim == 3 and residual.shape[:2] == shape
        return replace(parts, residual=residual) if alike else parts

    def _with_lacking(self, view: Any, parts: Any, flow: Flow, batch: RowBatch) -> Parts:
        """Return the parts of a site with what the stream lacks behind its block."""
        if not self.passage.streams or self.together:
            raise UnsupportedError(
                f"{view.name} stands in no chain of blocks that is cut block by block",
                allowed="networks whose blocks hand on one stream, the order sequential",
                next_step="refit to what the layer gave: compensate O",
            )  # fmt: skip
        stream = partial(self._behind, batch, "")
        if view.name not in self._scales:
            scale = scale_in_stream(view.output_map, view.features(parts), stream)
            last = last_linear(stream, self.work)
            if scale is None or last is None or last[1] is not view.output_map:
                raise UnsupportedError(
                    f"{view.name} is not the last that its block adds to the stream",
                    allowed="output maps behind which nothing stands in their block",
                    next_step="refit to what the layer gave: compensate O",
                )  # fmt: skip
            self._scales[view.name] = scale
        lacking = (self._behind(batch, DENSE) - stream()) / self._scales[view.name]
        padding = Padding.of(flow.mask, lacking.shape[1])
        found: Parts = replace(parts, lacking=padding.sort(lacking) if padding else lacking)
        return found

    def _behind(self, batch: RowBatch, kind: str) -> Tensor:
        """Return the stream behind the part, as it is cut by now or dense."""
        module = self.dense if kind else self.work
        found = self.passage.flowing(self.passage.run(module, self._given(batch, kind)))
        return at_least_float32(found[0])

    def _flows(self, names: Iterable[str], batch: RowBatch) -> dict[str, list[Flow]]:
        """Run a batch up to some sites."""
        valid = self.passage.rows.batch(batch.items).valid
        calls = self._observe(names, batch, dense=self.together)
        recorded = self.reference and any(
            isinstance(site, LTILayer) for site in self.sites.values()
        )
        wanted = calls
        if recorded and not self.together:
            wanted = self._observe(names, batch, dense=True)
        return {
            name: flows_of(name, own, valid, wanted[name] if recorded else None)
            for name, own in calls.items()
        }

    def _observe(
        self, names: Iterable[str], batch: RowBatch, *, dense: bool
    ) -> dict[str, list[Call]]:
        """Run a batch until all calls of some sites have been seen."""
        module, kind = (self.dense, DENSE) if dense else (self.work, "")
        given = self._given(batch, "" if self.together else kind)
        counts = self.passage.calls or self._counts.get(batch.name)
        # Where nobody has counted yet, the whole pass is watched, once for each batch.
        asked = list(names) if counts else list(self.part.sites)
        sites = {name: module.get_submodule(self.part.inner(name)) for name in asked}
        calls = observe(
            lambda: self.passage.run(module, given),
            sites,
            outputs=any(isinstance(site, LTILayer) for site in sites.values()),
            until=counts and {name: counts[name] for name in asked},
        )
        if not counts:
            self._counts[batch.name] = {name: len(own) for name, own in calls.items()}
        return {name: calls[name] for name in names}

    def _whole(self, stages: Mapping[str, Stage], views: Mapping[str, View]) -> dict[str, Totals]:
        """Collect from all rows at once."""
        flows: dict[str, list[Flow]] = {name: [] for name in stages}
        for batch in self.batches:
            if batch.items:
                for name, own in self._flows(stages, batch).items():
                    flows[name] += [flow.on_cpu() for flow in own] if self.group.size > 1 else own
                self.looked()
        found = {}
        for name, stage in stages.items():
            view = views[name]
            own = list(shared(flows[name], self.group))
            if stage.collect is None or not own:
                continue
            if isinstance(view, LTIView):
                streams: Any = tuple(flow.recording() for flow in own)
            else:
                streams = self._joined(view, stage, own)
            found[name] = Totals(sums=added(None, stage.collect(view, streams)))
        return found

    def _joined(self, layer: Mixer, stage: Stage, flows: Sequence[Flow]) -> Parts:
        """Return what flows through a mixer in all batches together."""
        flow = joined([flow.sorted() for flow in flows], layer.name)
        flow = replace(flow, given=flow.given.to(place_of(layer.module)))
        if not isinstance(layer, SelectiveLayer) or not stage.keeps:
            return layer.parts(flow.given, flow.valid)
        branches = layer.branches(flow.given)
        if not flow.moved and len(flows) == len(self._named()) and self.kept.fits(branches):
            start = 0
            # Parts of them would keep the memory of all.
            for name, own in zip(self._named(), flows, strict=True):
                rows = slice(start, start + len(own.given))
                self.kept.offer(layer.name, name, Held(branches.rows(rows), own.valid))
                start = rows.stop
        return layer.parts_of(branches, flow.valid)

    def _named(self) -> list[str]:
        return [batch.name for batch in self.batches if batch.items]


def _check_finite(sums: Statistics, site: str, stage: str) -> None:
    bad = [name for name, value in sums.items() if not bool(torch.isfinite(value).all())]
    if bad:
        raise NumericalError(
            f"{site}, {stage}: the statistics {bad[0]!r} are not finite; nothing was written",
            next_step="run the model in float32, or check its weights",
        )
