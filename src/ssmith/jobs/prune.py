"""Prune a model from files to files: open, calibrate, plan, cut, save with plan and receipt."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from ssmith import api, artefact, spine, surgery
from ssmith.artefact.blockwise import Assembly, DirectoryBlocks
from ssmith.artefact.configs import is_language_model, is_read_by_block, read_any_config
from ssmith.artefact.openers import OPENERS, Opener, check_opens
from ssmith.artefact.tuned import lineage
from ssmith.calibrate import PassConfig
from ssmith.calibrate.preflight import BlockSizes, Preflight, free_memory, preflight
from ssmith.calibrate.shards import Group
from ssmith.core.budget import Budget
from ssmith.core.checks import check_choice
from ssmith.core.directories import new_directory
from ssmith.core.errors import InputError
from ssmith.core.findings import Finding
from ssmith.core.names import spelled
from ssmith.core.plan import Plan
from ssmith.core.progress import Progress, silent
from ssmith.core.receipt import Receipt
from ssmith.core.rows import Rows
from ssmith.core.text import ALL
from ssmith.core.tokens import TokenWindows
from ssmith.core.told import told_of
from ssmith.core.unit import Mode
from ssmith.core.words import number_of, span
from ssmith.evaluation.resident import ResidentPeak, resident_peak
from ssmith.families.registry import find_selective
from ssmith.jobs.merge import whole
from ssmith.jobs.outputs import RECEIPT, RECIPE
from ssmith.jobs.source import Calibration, every_row
from ssmith.spine.choice import SELECTIVE

# Of the memory that is left, for weights and what a pass adds to them.
_USABLE = 0.8

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class PruneConfig:
    """What is removed, on which rows, and how the pass over them runs.

    Args:
        cuts: budgets, met in order; empty where a plan is given.
        mode: ``shrink`` or ``mask`` for all units; each unit's own way if None.
        target: what must open the result: ``engine`` (ssmith), ``stock`` transformers,
            ``llama.cpp`` or ``vllm``; a cut that it does not open is refused.
        calibration: on which rows.
        batch_size: rows per forward pass, ≥ 1; 4 if None, of sequences that S5 and S4D read 64.
        kept_gb: memory for what is held of a block between two looks at it, in 10⁹ bytes; 1 if
            None.
        from_disk: read blocks one by one; None to do so if the model would fill the memory.
    """

    cuts: tuple[Budget, ...] = ()
    mode: Mode | None = None
    target: Opener = "engine"
    calibration: Calibration = field(default_factory=Calibration)
    batch_size: int | None = None
    kept_gb: float | None = None
    from_disk: bool | None = None

    def __post_init__(self) -> None:
        check_choice("target", self.target, OPENERS)

    def run(self, work_dir: Path | None) -> PassConfig:
        """Return how a pass runs, with or without a working directory."""
        kept = PassConfig.kept_gb if self.kept_gb is None else self.kept_gb
        return PassConfig(batch_size=self.batch_size, kept_gb=kept, work_dir=work_dir)


@dataclass(frozen=True, kw_only=True)
class PruneTask:
    """One pruning from files to files.

    Args:
        model: directory, hub id or name of an embedded model.
        config: what to do.
        plan: a plan to follow in place of budgets; None to make one.
        out: the directory to make; None to decide only.
        overwrite: replace an earlier model there.
        work_dir: for what is done already; needed to go on after a kill.
        command: the command line, for the receipt.
        recipe: the settings as a text, saved beside the result.
    """

    model: str
    config: PruneConfig
    plan: Path | None = None
    out: Path | None = None
    overwrite: bool = False
    work_dir: Path | None = None
    command: Sequence[str] = ()
    recipe: str | None = None

    def __post_init__(self) -> None:
        if (self.plan is None) == (not self.config.cuts):
            raise InputError(
                "both a plan and cuts decide" if self.plan else "nothing is to be removed",
                allowed="one or more cuts, or a plan",
                next_step="state=0.5 removes half of the states",
            )


@dataclass(frozen=True, kw_only=True)
class Pruned:
    """What a pruning left."""

    plan: Plan
    receipt: Receipt


def prune(task: PruneTask, *, say: Say, progress: Progress = silent) -> Pruned:
    """Prune a model from its files, and save it unless nothing is to be written.

    ``say`` is told, line by line and before the work begins, what will be done and needed. Plan and
    receipt are saved with the model.
    """
    *adapters, directory = lineage(artefact.locate(task.model))
    content = read_any_config(directory)
    by_block = is_read_by_block(content) and _units_in(task, SELECTIVE)
    _check_kind(task, reads_text=is_language_model(content), by_block=by_block)
    if adapters and task.config.from_disk:
        raise InputError(
            f"{task.model} is an adapter, and blocks can be read one by one of a model alone",
            next_step=f"merge it first: ssmith merge {task.model} --out MODEL",
        )
    if by_block and task.plan is None and not adapters:
        blocks = DirectoryBlocks(directory, content)
        windows = _windows(task.config.calibration, directory, blocks.skeleton)
        needed, from_disk = _needed(task, blocks, windows)
        _announce(task, windows, needed, from_disk, say)
        if from_disk:
            return _from_disk(task, blocks, windows, needed, say=say, progress=progress)
    else:
        windows, needed = None, None
    with resident_peak() as peak:
        made = whole(task.model)
        model = made.model
        if made.report is not None:
            say(made.said)
        target, mode = task.config.target, task.config.mode
        if target != "engine":
            check_opens(target, model, spine.outline(model, task.config.cuts), mode)
        rows, read = _rows(task.config.calibration, model, directory, windows)
        if rows is not None and not spine.reads_data(model, task.config.cuts):
            say("note: the data are not read: what was asked for is decided by the weights alone")
        plan = _plan(task, model, rows, progress)
        portable, note = check_opens(target, model, plan, mode)
        receipt = api.prune_(model, plan, mode)
        _say_where(portable, note, say)
    receipt = _told(task, receipt, rows, peak, needed, read=read)
    if made.report is not None:
        merged = {"digest": plan.model_digest, "said": made.said}
        receipt = dataclasses.replace(
            receipt,
            model={**receipt.model, "digest_before": made.digest},
            details={**receipt.details, "merged_first": merged},
        )
    if task.out is not None and Group.current().rank == 0:
        api.save(
            model, task.out, overwrite=task.overwrite, parent=plan.model_digest,
            facts=_card(plan), extra_files=_files(task, plan, receipt),
        )  # fmt: skip
    return Pruned(plan=plan, receipt=receipt)


def _say_where(portable: str, note: str, say: Say) -> None:
    say(f"portable: {portable}")
    if note:
        say(f"note: {note}")


def _check_kind(task: PruneTask, *, reads_text: bool, by_block: bool) -> None:
    """Refuse settings that say nothing about what is to be done."""
    task.config.calibration.check_kind(text=reads_text)
    if task.config.calibration.data is None and task.plan is None:
        drawn = any(spelled(budget.method) == "random" for budget in task.config.cuts)
        unread = {"batch_size": task.config.batch_size, "seed": task.config.calibration.seed}
        for name, value in unread.items():
            if value and not (name == "seed" and drawn):
                raise InputError(
                    f"{name} without data", next_step="name the rows as well, or leave it out"
                )
    if task.plan is not None or by_block:
        return
    given = {"kept_gb": task.config.kept_gb, "from_disk": task.config.from_disk or None}
    named = [name for name, value in given.items() if value is not None]
    if named:
        raise InputError(
            f"{named[0]} is for cuts of state, entry and weight of Mamba language models",
            next_step="leave it out",
        )


def _units_in(task: PruneTask, known: Collection[str]) -> bool:
    return all(budget.unit in known for budget in task.config.cuts)


def _plan(task: PruneTask, model: nn.Module, rows: Rows | None, progress: Progress) -> Plan:
    if task.plan is not None:
        if task.config.calibration.data is not None:
            raise InputError(
                "data and a plan are given, and a plan holds every value already",
                allowed="a plan alone, or cuts with data",
            )
        return Plan.load(task.plan)
    return spine.plan(
        model, task.config.cuts, rows, progress=progress,
        run=task.config.run(task.work_dir),
    )  # fmt: skip


def _rows(
    calibration: Calibration, model: Any, directory: Path, windows: TokenWindows | None
) -> tuple[Rows | None, list[Finding]]:
    """Return the rows to calibrate on, and what must be known of how they were read."""
    if calibration.data is None:
        return None, []
    if windows is not None or is_language_model(read_any_config(directory)):
        found = windows or _windows(calibration, directory, model)
        return found, told_of(found.details)
    if calibration.split == ALL:
        loaded = every_row(model, str(directory), calibration.data, labelled=False)
    else:
        loaded = api.load_data(calibration.data, model, needs=(calibration.split,))
    return calibration.draw(loaded), told_of(loaded.details)


def _windows(calibration: Calibration, directory: Path, model: Any) -> TokenWindows:
    windows = calibration.draw(calibration.text(directory, model.config.vocab_size))
    assert isinstance(windows, TokenWindows)
    return windows


def _announce(
    task: PruneTask, windows: TokenWindows, needed: Preflight, from_disk: bool, say: Say
) -> None:
    """Say what will be done, on what, and what it will need."""
    lengths = windows.lengths
    say(
        f"calibration: {number_of(len(windows), 'window')} of "
        f"{span(int(lengths.min()), int(lengths.max()))} tokens, {windows.tokens:,} in all, "
        f"{windows.pad_share:.1%} padding, seed {task.config.calibration.seed}, "
        f"from {windows.name}"
    )
    held = "blocks one by one from disk" if from_disk else "the whole model in memory"
    say(
        f"preflight: about {_mebibytes(needed.memory)} of memory beside Python itself ({held}: "
        f"weights {_mebibytes(needed.weights)}, activations {_mebibytes(needed.activations)}, "
        f"inside a block {_mebibytes(needed.kept)}, one batch {_mebibytes(needed.batch)}, "
        f"statistics {_mebibytes(needed.statistics)})"
        + (f", {_mebibytes(needed.disk)} of disk" if needed.disk else "")
    )


def _needed(
    task: PruneTask, blocks: DirectoryBlocks, windows: TokenWindows
) -> tuple[Preflight, bool]:
    layer = next(iter(find_selective(blocks.skeleton).values()))
    choice = spine.choose(task.config.cuts, refits=spine.can_refit(layer))
    spine.check_windows(windows, blocks.skeleton.config.vocab_size, choice)
    sizes = BlockSizes(
        m=blocks.skeleton.config.hidden_size, e=layer.e, n=layer.n,
        model_bytes=blocks.model_bytes(), block_bytes=blocks.block_bytes(),
    )  # fmt: skip

    run = task.config.run(task.work_dir)

    def estimate(*, from_disk: bool) -> Preflight:
        return preflight(
            sizes, windows, batch_size=len(windows) if choice.lockstep else run.at_once(),
            kept_bytes=round(run.kept_gb * 1e9), on_disk=run.work_dir is not None,
            blocks_from_disk=from_disk, statistics=spine.summed_numbers(choice, layer),
        )  # fmt: skip

    whole, free = estimate(from_disk=False), free_memory()
    from_disk = task.config.from_disk
    if from_disk is None:
        from_disk = free is not None and whole.memory > _USABLE * free
    if from_disk and task.work_dir is None:
        raise InputError(
            f"the model needs about {_mebibytes(whole.memory)} in memory"
            + ("" if free is None else f", of which {_mebibytes(free)} are left")
            + ", and its blocks can be read one by one only with a working directory",
            next_step="give a working directory on a disk with room for activations and weights",
        )
    if from_disk:
        blocks.check()
    return estimate(from_disk=from_disk), from_disk


def _from_disk(
    task: PruneTask,
    blocks: DirectoryBlocks,
    windows: TokenWindows,
    needed: Preflight,
    *,
    say: Say,
    progress: Progress,
) -> Pruned:
    if task.work_dir is None:
        raise InputError("a working directory is missing")
    run = task.config.run(task.work_dir)
    with resident_peak() as peak:
        plan, states = spine.plan_from_disk(
            blocks, task.config.cuts, windows, run, skeleton=blocks.skeleton,
            digest=blocks.digest(), progress=progress,
        )  # fmt: skip
    portable, note = check_opens(task.config.target, blocks.skeleton, plan)
    _say_where(portable, note, say)
    receipt = surgery.receipt_of(blocks.skeleton, plan)
    receipt = _told(task, receipt, windows, peak, needed, read=told_of(windows.details))
    if task.out is not None and Group.current().rank == 0:
        assembly = Assembly(blocks=blocks, states=states, parent=plan.model_digest)
        with new_directory(task.out, overwrite=task.overwrite, sealed=True) as scratch:
            assembly.write(scratch, facts=_card(plan), files=_files(task, plan, receipt))
    return Pruned(plan=plan, receipt=receipt)


def _told(
    task: PruneTask,
    receipt: Receipt,
    rows: Rows | None,
    peak: ResidentPeak,
    needed: Preflight | None,
    *,
    read: Sequence[Finding],
) -> Receipt:
    """Return a receipt that names source, rows and command, and the memory it took."""
    memory = {} if needed is None else {"estimated": needed.as_dict()}
    return dataclasses.replace(
        receipt,
        model={**receipt.model, "source": task.model},
        data=receipt.data if rows is None else dict(rows.describe()),
        method={**receipt.method, "command": list(task.command)},
        memory={**memory, "measured": peak.as_dict()},
        findings=(*read, *receipt.findings),
    )


def _card(plan: Plan) -> dict[str, Any]:
    return {
        "title": "Pruned state space model",
        "text": [f"{str(cut).splitlines()[0].capitalize()}." for cut in plan.cuts],
    }


def _files(task: PruneTask, plan: Plan, receipt: Receipt) -> dict[str, bytes]:
    recipe = {} if task.recipe is None else {RECIPE: task.recipe.encode()}
    return {**plan.files(), RECEIPT: receipt.to_json().encode(), **recipe}


def _mebibytes(count: int) -> str:
    return f"{count / 2**20:,.0f} MiB" if count >= 10 * 2**20 else f"{count / 2**20:,.1f} MiB"
