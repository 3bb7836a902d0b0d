"""Prune a model from files to files: open, calibrate, plan, cut, save with plan and receipt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import nn

from ssmith import api, artefact, spine
from ssmith.artefact.blockwise import bytes_of, open_absent
from ssmith.artefact.configs import is_language_model, read_any_config
from ssmith.artefact.openers import OPENERS, Opener, check_opens
from ssmith.artefact.tuned import lineage
from ssmith.calibrate import PassConfig
from ssmith.calibrate.preflight import BlockSizes, Preflight, free_memory, preflight
from ssmith.calibrate.shards import Group
from ssmith.core.budget import Budget
from ssmith.core.checks import check_choice
from ssmith.core.details import MergedFirst
from ssmith.core.errors import InputError, UnsupportedError
from ssmith.core.findings import Finding
from ssmith.core.names import spelled
from ssmith.core.plan import Plan
from ssmith.core.progress import Progress, silent
from ssmith.core.receipt import RECEIPT, Receipt
from ssmith.core.rows import Rows
from ssmith.core.sections import MemorySection
from ssmith.core.text import ALL
from ssmith.core.tokens import TokenWindows
from ssmith.core.told import told_of
from ssmith.core.unit import Mode
from ssmith.core.words import number_of, span
from ssmith.evaluation.resident import ResidentPeak, resident_peak
from ssmith.families.absent import source_of
from ssmith.jobs.merge import whole
from ssmith.jobs.outputs import RECIPE
from ssmith.jobs.source import Calibration, every_row
from ssmith.units import unit_named

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
    given = None if task.plan is None else _given_plan(task.plan, task.config)
    by_block = is_language_model(content)
    if task.config.from_disk and by_block:
        spine.check_by_block(task.config.cuts)
    by_block = by_block and not spine.needs_whole(task.config.cuts)
    _check_kind(task, reads_text=is_language_model(content), by_block=by_block)
    if adapters and task.config.from_disk:
        raise InputError(
            f"{task.model} is an adapter, and blocks can be read one by one of a model alone",
            next_step=f"merge it first: ssmith merge {task.model} --out MODEL",
        )
    windows, needed, absent = None, None, None
    if by_block and not adapters:
        absent = open_absent(directory, content)
        if given is not None:
            absent = absent if _stays(task.config, given, absent, directory) else None
        else:
            absent, windows, needed = _held_as(task, absent, directory, say)
    source = None if absent is None else source_of(absent)
    if source is not None:
        source.check()
    with resident_peak() as peak:
        made = None if absent is not None else whole(task.model)
        model: Any = absent if made is None else made.model
        if made is not None and made.report is not None:
            say(made.said)
        _check_target(task, model)
        rows, read = _rows(task.config.calibration, model, directory, windows)
        if rows is not None and not spine.reads_data(model, task.config.cuts):
            say("note: the data are not read: what was asked for is decided by the weights alone")
        plan = given or spine.plan(
            model, task.config.cuts, rows, progress=progress, run=task.config.run(task.work_dir)
        )
        portable, note = check_opens(task.config.target, model, plan, task.config.mode)
        receipt = api.prune_(model, plan, task.config.mode)
        say(f"portable: {portable}")
        if note:
            say(f"note: {note}")
    receipt = _told(task, receipt, rows, peak, needed, read=read)
    if made is not None and made.report is not None:
        merged = MergedFirst(digest=plan.model_digest, said=made.said)
        receipt = replace(
            receipt,
            model=replace(receipt.model, digest_before=made.digest),
            details=replace(receipt.cut, merged_first=merged),
        )
    if task.out is not None and Group.current().rank == 0:
        api.save(
            model, task.out, overwrite=task.overwrite, parent=plan.model_digest,
            facts=_card(plan), extra_files=_files(task, plan, receipt),
        )  # fmt: skip
    return Pruned(plan=plan, receipt=receipt)


def _check_target(task: PruneTask, model: nn.Module) -> None:
    """Refuse sizes that the target does not open, before anything is read or measured."""
    if task.config.target != "engine":
        outline = spine.outline(model, task.config.cuts)
        check_opens(task.config.target, model, outline, task.config.mode)


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
    if by_block:
        return
    if task.config.from_disk:
        raise InputError("from_disk is for language models", next_step="leave it out")
    if task.config.kept_gb is not None:
        raise _keeps_nothing()


def _keeps_nothing() -> InputError:
    return InputError(
        "kept_gb is for cuts of state, entry and weight of Mamba language models",
        next_step="leave it out",
    )


def _given_plan(path: Path, config: PruneConfig) -> Plan:
    """Read a plan that decides alone, and refuse what would decide beside it."""
    if config.calibration.data is not None:
        raise InputError(
            "data and a plan are given, and a plan holds every value already",
            allowed="a plan alone, or cuts with data",
        )
    if config.kept_gb is not None:
        raise _keeps_nothing()
    plan = Plan.load(path)
    if config.from_disk and _needs_whole(plan):
        raise UnsupportedError(
            f"the plan begins with a cut of {plan.cuts[0].unit}s, and the model stays on disk",
            allowed="plans of units inside blocks",
            next_step="follow it in memory",
        )
    return plan


def _needs_whole(plan: Plan) -> bool:
    return any(unit_named(cut.unit).whole for cut in plan.cuts)


def _stays(config: PruneConfig, plan: Plan, absent: nn.Module, directory: Path) -> bool:
    """Return whether a model that a plan is followed on is to stay on disk."""
    if config.from_disk is not None:
        return config.from_disk
    return _overfills(bytes_of(directory, absent)[0], free_memory()) and not _needs_whole(plan)


def _overfills(needed: float, free: int | None) -> bool:
    """Return whether some bytes are more than may be taken of the memory that is left."""
    return free is not None and needed > _USABLE * free


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


def _held_as(
    task: PruneTask, absent: Any, directory: Path, say: Say
) -> tuple[Any, TokenWindows | None, Preflight | None]:
    """Return a model if it is to stay on disk, else None; its windows; what a pass will need."""
    _check_target(task, absent)
    sizes = spine.pass_sizes(absent, task.config.cuts)
    if task.config.kept_gb is not None and not sizes.keeps:
        raise _keeps_nothing()
    from_disk, windows, needed = bool(task.config.from_disk), None, None
    if task.config.calibration.data is not None or sizes.keeps:
        windows = _windows(task.config.calibration, directory, absent)
        spine.check_windows(windows, absent.config.vocab_size, sizes.lockstep)
        needed, from_disk = _needed(task, absent, directory, windows, sizes)
        _announce(task, windows, needed, from_disk, say)
    return (absent if from_disk else None), windows, needed


def _needed(
    task: PruneTask,
    absent: Any,
    directory: Path,
    windows: TokenWindows,
    sizes: spine.PassSizes,
) -> tuple[Preflight, bool]:
    run = task.config.run(task.work_dir)
    model_bytes, block_bytes = bytes_of(directory, absent)

    def estimate(*, from_disk: bool) -> Preflight:
        return preflight(
            BlockSizes(
                m=absent.config.hidden_size, e=sizes.e, n=sizes.n,
                model_bytes=model_bytes, block_bytes=block_bytes,
            ),
            windows, batch_size=len(windows) if sizes.lockstep else run.at_once(),
            kept_bytes=round(run.kept_gb * 1e9) if sizes.keeps else 0,
            on_disk=run.work_dir is not None,
            blocks_from_disk=from_disk, statistics=sizes.summed,
        )  # fmt: skip

    whole, free = estimate(from_disk=False), free_memory()
    from_disk = task.config.from_disk
    if from_disk is None:
        from_disk = _overfills(whole.memory, free)
    if from_disk and task.work_dir is None and spine.reads_data(absent, task.config.cuts):
        raise InputError(
            f"the model needs about {_mebibytes(whole.memory)} in memory"
            + ("" if free is None else f", of which {_mebibytes(free)} are left")
            + ", and its blocks can be read one by one only with a working directory",
            next_step="give a working directory on a disk with room for activations and weights",
        )
    return estimate(from_disk=from_disk), from_disk


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
    return replace(
        receipt,
        model=replace(receipt.model, source=task.model),
        data=receipt.data if rows is None else rows.describe(),
        method=replace(receipt.method, command=tuple(task.command)),
        memory=MemorySection(
            estimated={} if needed is None else needed.as_dict(), measured=peak.section()
        ),
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
