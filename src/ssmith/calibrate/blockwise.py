"""The walk: block after block, each one measured, cut, and run again for those behind it.

Every block sees what the cut blocks before it really hand on, under the semantics they were cut
with: what is measured is the model that will be used.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Bool
from torch import Tensor

from ssmith.calibrate.kept import Kept
from ssmith.calibrate.shards import Group, ShardSum, added
from ssmith.calibrate.walk_store import DirectoryStore, MemoryStore, WalkStore
from ssmith.core.checks import check_integer, check_number
from ssmith.core.errors import InputError, NumericalError
from ssmith.core.selective import BlockRecord, Statistics, Totals
from ssmith.core.tokens import TokenWindows
from ssmith.families.hf.blocks import (
    Blocks,
    layer_in,
    mixer_input,
    restore_,
    state_of,
    with_residual,
)
from ssmith.families.hf.engine import engine
from ssmith.families.mamba.selective import MixerParts, SelectiveLayer
from ssmith.ops.reuse import reused_memory

Collect = Callable[[SelectiveLayer, MixerParts], Statistics]
Apply = Callable[[SelectiveLayer, Totals], BlockRecord]
Tell = Callable[[float, int, str], None]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One look at a block, and what follows from it.

    Args:
        name: for receipts.
        collect: the statistics of one batch; sums over its windows, steps that are not valid
            counting for nothing. None if the stage needs no data.
        apply: decides, and writes the decision into the layer.
        lockstep: give all windows in one batch, for statistics that are no sums over windows.
        leaves: what may be kept of a batch for what follows: "branches", if the stage reads nothing
            of what lies before them and leaves ``in_proj`` and ``conv1d`` as they are; "selection",
            if it leaves ``x_proj`` as well; or "nothing".
    """

    name: str
    collect: Collect | None
    apply: Apply
    lockstep: bool = False
    leaves: Literal["nothing", "branches", "selection"] = "nothing"


Stages = Callable[[SelectiveLayer], Sequence[Stage]]


@dataclass(frozen=True, kw_only=True)
class WalkConfig:
    """How a walk runs; nothing here changes what it decides, but for the rounding of sums.

    Args:
        batch_size: windows per forward pass, ≥ 1.
        work_dir: keep activations and finished blocks here, and go on from what it holds; None to
            keep all in memory.
        fingerprint: what the result depends on; a directory with another one is refused.
        lasting: whether a working directory keeps what became of the blocks; not for a walk that
            only measures.
        kept_gb: memory, in 10⁹ bytes, for what ``in_proj`` and ``conv1d`` make of the windows,
            which cuts of states leave as it is; what does not fit is computed again. ≥ 0.

    Raises:
        InputError: if a setting is outside its domain.
    """

    batch_size: int = 4
    work_dir: Path | None = None
    fingerprint: str = ""
    lasting: bool = True
    kept_gb: float = 1.0

    def __post_init__(self) -> None:
        check_integer("batch_size", self.batch_size, at_least=1)
        check_number("kept_gb", self.kept_gb, at_least=0)

    @property
    def kept_bytes(self) -> int:
        """The same in bytes."""
        return round(self.kept_gb * 1e9)


@contextmanager
def surveying(config: WalkConfig) -> Iterator[WalkConfig]:
    """Yield the configuration of a walk that only measures, and leave nothing of it.

    Args:
        config: of the walk it prepares. Where that one keeps activations on disk, so does this.

    Yields:
        The configuration.
    """
    if config.work_dir is None:
        yield config
        return
    place = config.work_dir / f"survey-{Group.current().rank}"
    shutil.rmtree(place, ignore_errors=True)
    try:
        yield replace(config, work_dir=place, lasting=False)
    finally:
        shutil.rmtree(place, ignore_errors=True)


@dataclass(frozen=True)
class _Batch:
    name: str
    shard: int
    rows: range


@torch.no_grad()
@reused_memory()
def walk(
    blocks: Blocks,
    windows: TokenWindows,
    stages: Stages,
    config: WalkConfig,
    tell: Tell | None = None,
) -> tuple[BlockRecord, ...]:
    """Take a model's blocks one after the other through some stages.

    Per block: each stage runs all windows through the block as it is by then, decides and writes;
    at last the windows run through the finished block. Under torch.distributed each process runs
    its share of the windows, and all of them decide the same.

    Args:
        blocks: where the blocks come from; they are changed.
        windows: token windows, padded on the right.
        stages: what is done to a layer.
        config: see `WalkConfig`.
        tell: called with blocks done (parts of one for the batches it has seen), blocks in all,
            and a word.

    Returns:
        What every stage decided, in order.

    Raises:
        InputError: if the working directory holds another walk, or processes cannot share it.
        NumericalError: if a number leaves the finite ones, or processes decide differently.
    """
    group = Group.current()
    store = _store(config)
    batches = list(_batches(group, len(windows), config.batch_size))
    names = blocks.layers
    records: list[BlockRecord] = []
    done = min(store.finished(), len(names))
    for index in range(done):
        state, found = store.outcome(index)
        if blocks.lasting:
            with blocks.block(index) as block:
                restore_(block, state)
        records += found
    for index, name in enumerate(names):
        if index < done:
            continue
        looks = _Looks(tell, name, index, len(names))
        with blocks.block(index) as block, engine(block):
            run = _BlockRun(
                block=block, layer=layer_in(block, name), blocks=blocks, windows=windows,
                store=store, index=index, kept=Kept(config.kept_bytes), looks=looks,
            )  # fmt: skip
            todo = stages(run.layer)
            given = sum(bool(batch.rows) for batch in batches)
            looks.expect(given * (1 + sum(stage.collect is not None for stage in todo)))
            found = tuple(_stage(run, stage, batches, group) for stage in todo)
            _hand_on(run, batches, last=index + 1 == len(names))
            state = state_of(block)
        _check_same(state.tensors, name, group)
        store.finish(index, state, found)
        records += found
    if tell is not None:
        tell(len(names), len(names), "")
    return tuple(records)


class _Looks:
    """Tells how far a walk is, also within a block, by the batches that were looked at."""

    def __init__(self, tell: Tell | None, name: str, index: int, blocks: int) -> None:
        self._tell, self._name, self._index, self._blocks = tell, name, index, blocks
        self._seen, self._all = 0, 1
        self.add(0)

    def expect(self, count: int) -> None:
        """Take ``count`` batches as the whole block."""
        self._all = max(count, 1)

    def add(self, count: int = 1) -> None:
        """Count batches."""
        self._seen += count
        # The block is done when it is stored, not when it has seen its last batch.
        share = min(self._seen / self._all, 0.99)
        if self._tell is not None:
            self._tell(self._index + share, self._blocks, self._name)


@dataclass(frozen=True, kw_only=True)
class _BlockRun:
    block: Any
    layer: SelectiveLayer
    blocks: Blocks
    windows: TokenWindows
    store: WalkStore
    index: int
    kept: Kept
    looks: _Looks

    def hidden(self, batch: _Batch) -> Tensor:
        if self.index == 0:
            found = self.blocks.embed(self.windows.ids[list(batch.rows)])
        else:
            found = self.store.read(self.index, batch.name)
        return found.to(self.layer.mixer.A_log.device)

    def parts(self, stage: Stage, batch: _Batch) -> MixerParts:
        """Return what a stage looks at of a batch."""
        hidden = self.hidden(batch)
        valid = _valid(self.windows, batch.rows)
        given = None if valid is None else valid.to(hidden.device)
        if stage.leaves == "nothing":
            parts = self.layer.parts(mixer_input(self.block, hidden), given)
            return replace(parts, residual=hidden)
        branches = self.kept.get(batch.name)
        if branches is None:
            branches = self.layer.branches(mixer_input(self.block, hidden))
            self.kept.offer(batch.name, branches)
        return replace(self.layer.parts_of(branches, given), residual=hidden)

    def all_parts(self, stage: Stage, batches: Sequence[_Batch]) -> MixerParts:
        """Return what a stage looks at of all batches together."""
        hidden = torch.cat([self.hidden(batch) for batch in batches])
        valid = _valid(self.windows, range(len(self.windows)))
        given = None if valid is None else valid.to(hidden.device)
        if stage.leaves == "nothing":
            parts = self.layer.parts(mixer_input(self.block, hidden), given)
            return replace(parts, residual=hidden)
        branches = self.layer.branches(mixer_input(self.block, hidden))
        # Parts of them would keep the memory of all.
        for batch in batches if self.kept.fits(branches) else ():
            self.kept.offer(batch.name, branches.rows(slice(batch.rows.start, batch.rows.stop)))
        return replace(self.layer.parts_of(branches, given), residual=hidden)

    def output(self, batch: _Batch) -> Tensor:
        """Return what the finished block makes of a batch."""
        hidden, branches = self.hidden(batch), self.kept.take(batch.name)
        if branches is None:
            made: Tensor = self.block(hidden)
            return made
        return with_residual(self.block, hidden, self.layer.output(branches))


def _stage(run: _BlockRun, stage: Stage, batches: Sequence[_Batch], group: Group) -> BlockRecord:
    record = stage.apply(run.layer, _totals(run, stage, batches, group))
    if stage.leaves == "nothing":
        run.kept.clear()
    elif stage.leaves == "branches":
        run.kept.forget_selection()
    return record


def _totals(run: _BlockRun, stage: Stage, batches: Sequence[_Batch], group: Group) -> Totals:
    """Return what a stage gathers of all windows."""
    if stage.collect is None:
        return Totals(sums={})
    if stage.lockstep:
        return _together(run, stage, batches, group)
    totals, sums, shard = ShardSum(), None, None
    for batch in batches:
        if shard is not None and batch.shard != shard:
            totals.add(shard, sums)
            sums = None
        shard = batch.shard
        if batch.rows:
            sums = added(sums, stage.collect(run.layer, run.parts(stage, batch)))
            run.looks.add()
    if shard is not None:
        totals.add(shard, sums)
    found = totals.totals(group)
    _check_finite(found.sums, run.layer.name, stage.name)
    return found


def _together(run: _BlockRun, stage: Stage, batches: Sequence[_Batch], group: Group) -> Totals:
    """Collect from all windows at once."""
    if group.size > 1:
        raise InputError(
            f"{stage.name} needs all windows in one process, there are {group.size}",
            next_step="run it in one process, or choose another method",
        )
    if stage.collect is None:
        raise NotImplementedError("a stage without data is not run on data")
    given = [batch for batch in batches if batch.rows]
    sums = added(None, stage.collect(run.layer, run.all_parts(stage, given)))
    run.looks.add(len(given))
    _check_finite(sums, run.layer.name, stage.name)
    return Totals(sums=sums)


def _hand_on(run: _BlockRun, batches: Sequence[_Batch], *, last: bool) -> None:
    """Run the finished block and keep what the next one is given; nothing follows the last."""
    for batch in batches:
        if batch.rows and not last:
            run.store.write(run.index + 1, batch.name, run.output(batch))
            run.looks.add()


def _batches(group: Group, windows: int, size: int) -> Iterator[_Batch]:
    """Yield the batches of this process, an empty one for a shard without windows."""
    for shard, rows in group.shards(windows):
        starts = range(rows.start, rows.stop, size) if rows else [rows.start]
        for start in starts:
            part = range(start, min(start + size, rows.stop))
            yield _Batch(name=f"{shard}-{start:06}", shard=shard, rows=part)


def _valid(windows: TokenWindows, rows: range) -> Bool[Tensor, "b l"] | None:
    """Return where steps are valid; None if all are."""
    lengths, steps = windows.lengths[list(rows)], windows.ids.shape[1]
    if bool((lengths == steps).all()):
        return None
    return torch.arange(steps) < lengths[:, None]


def open_directory(config: WalkConfig, directory: Path) -> DirectoryStore:
    """Open a walk's working directory, the first process before the others.

    Args:
        config: of the walk.
        directory: its working directory.

    Returns:
        The store in it.

    Raises:
        InputError: if the directory holds another walk, or something else.
    """
    group = Group.current()
    # A survey's directory belongs to one process.
    first = group.rank == 0 or not config.lasting
    store = DirectoryStore(directory, config.fingerprint, writes=first, lasting=config.lasting)
    if first:
        store.open()
    if config.lasting:
        group.gather("opened")
    if not first:
        store.open()
    return store


def _store(config: WalkConfig) -> WalkStore:
    return MemoryStore() if config.work_dir is None else open_directory(config, config.work_dir)


def _check_finite(sums: Statistics, layer: str, stage: str) -> None:
    bad = [name for name, value in sums.items() if not bool(torch.isfinite(value).all())]
    if bad:
        raise NumericalError(
            f"{layer}, {stage}: the statistics {bad[0]!r} are not finite; nothing was written",
            next_step="run the model in float32, or check its weights",
        )


def _check_same(tensors: dict[str, Tensor], layer: str, group: Group) -> None:
    """Raise unless all processes made the same of a block."""
    if group.size == 1:
        return
    digest = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        digest.update(f"{name}|{tuple(value.shape)}|".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    if len(set(group.gather(digest.hexdigest()))) > 1:
        raise NumericalError(
            f"{layer}: processes decided differently",
            next_step="run them on machines of one kind with the same versions",
        )
