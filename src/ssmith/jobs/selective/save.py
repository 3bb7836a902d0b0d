"""The whole command: open a model, calibrate, prune, save, in memory or block by block."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ssmith import artefact
from ssmith.artefact.blockwise import Assembly, DirectoryBlocks
from ssmith.artefact.configs import is_language_model, read_any_config, unknown
from ssmith.artefact.layout import FORMAT, MANIFEST
from ssmith.calibrate.blockwise import WalkConfig
from ssmith.calibrate.preflight import BlockSizes, Preflight, free_memory, preflight
from ssmith.calibrate.shards import Group
from ssmith.calibrate.walk_store import DirectoryStore
from ssmith.core.errors import InputError, UnsupportedError
from ssmith.core.files import new_directory
from ssmith.core.progress import Progress, silent
from ssmith.core.tokens import TokenWindows
from ssmith.core.words import number_of, span
from ssmith.evaluation.resident import ResidentPeak, resident_peak
from ssmith.families.mamba.selective import SelectiveLayer
from ssmith.families.registry import find_selective
from ssmith.jobs.outputs import RECEIPT
from ssmith.jobs.selective.config import SelectiveConfig
from ssmith.jobs.selective.plans import plans_of, weights_of
from ssmith.jobs.selective.run import (
    Pruned,
    Trip,
    check_windows,
    fingerprint,
    forewarned,
    prune_selective_,
    receipt_of,
)
from ssmith.jobs.selective.sizes import summed_numbers
from ssmith.jobs.selective.stages import can_refit
from ssmith.jobs.selective.task import Calibration, FileTask

__all__ = ["Calibration", "PruneTask", "announce", "portable", "prune_and_save"]

# Of the memory that is left, for weights and what a walk adds to them.
_USABLE = 0.8


@dataclass(frozen=True, kw_only=True)
class PruneTask(FileTask):
    """A pruning from model to directory: what `FileTask` holds, and this.

    Args:
        config: what is removed.
        batch_size: windows per forward pass.
        kept_gb: memory for what is held of a block's inside between two looks at it, in 10⁹ bytes.
        from_disk: read blocks one by one; None to do so if the model would fill the memory.
    """

    config: SelectiveConfig
    batch_size: int = 4
    kept_gb: float = WalkConfig.kept_gb
    from_disk: bool | None = None


Say = Callable[[str], None]


def prune_and_save(task: PruneTask, *, say: Say, progress: Progress = silent) -> Pruned:
    """Prune a model from its files, and save it unless nothing is to be written.

    Args:
        task: what to do.
        say: told, line by line and before the work begins, what will be done and needed.
        progress: listener.

    Returns:
        Receipt and plans.

    Raises:
        InputError: if the task does not fit together.
        DataError: if the text does not.
        UnsupportedError: if the model has no selective layer with states of its own.
    """
    directory = artefact.locate(task.model)
    content = read_any_config(directory)
    if content.get("format") == FORMAT:
        raise UnsupportedError(
            f"{task.model} has S5 or S4D layers, whose states are cut by --ratio",
            allowed="models of type mamba and falcon_mamba, and mamba_ssm checkpoints of Mamba-1",
            next_step="see `ssmith prune --help`",
        )
    if not is_language_model(content):
        raise unknown(directory, content)
    blocks = DirectoryBlocks(directory, content)
    layer = _first(blocks)
    task = dataclasses.replace(task, config=task.config.resolved(refits=can_refit(layer)))
    windows = task.calibration.windows(directory, blocks.skeleton.config.vocab_size)
    check_windows(windows, blocks.skeleton.config.vocab_size, task.config)
    needed, from_disk = _needed(task, blocks, layer, windows)
    announce(task, windows, needed, from_disk, say)
    for finding in forewarned(task.config, layer):
        say(f"note: {finding.message}")
    if from_disk:
        return _from_disk(task, blocks, windows, needed, progress=progress)
    with resident_peak() as peak:
        model = artefact.load(directory)
        walking = WalkConfig(
            batch_size=task.batch_size, kept_gb=task.kept_gb, work_dir=task.work_dir
        )
        done = prune_selective_(model, windows, task.config, walk_config=walking, progress=progress)
    done = _told(done, task, needed, peak)
    task.save(model, done.receipt, _card(done), _plans(done))
    return done


def _first(blocks: DirectoryBlocks) -> SelectiveLayer:
    """Return the first layer, of which only the sizes are known."""
    return SelectiveLayer("", find_selective(blocks.skeleton)[blocks.layers[0]].mixer)


def announce(
    task: PruneTask, windows: TokenWindows, needed: Preflight, from_disk: bool, say: Say
) -> None:
    """Say what will be done, on what, and what it will need.

    Args:
        task: what to do.
        windows: the calibration text.
        needed: memory.
        from_disk: whether blocks are read one by one.
        say: told line by line.
    """
    lengths = windows.lengths
    say(
        f"calibration: {number_of(len(windows), 'window')} of "
        f"{span(int(lengths.min()), int(lengths.max()))} tokens, {windows.tokens:,} in all, "
        f"{windows.pad_share:.1%} padding, seed {task.calibration.seed}, from {windows.name}"
    )
    held = "blocks one by one from disk" if from_disk else "the whole model in memory"
    say(
        f"preflight: about {_mebibytes(needed.memory)} of memory beside Python itself ({held}: "
        f"weights {_mebibytes(needed.weights)}, activations {_mebibytes(needed.activations)}, "
        f"inside a block {_mebibytes(needed.kept)}, one batch {_mebibytes(needed.batch)}, "
        f"statistics {_mebibytes(needed.statistics)})"
        + (f", {_mebibytes(needed.disk)} of disk" if needed.disk else "")
    )
    say(f"portable: {portable(task.config)}")


def portable(config: SelectiveConfig) -> str:
    """Return where a model that is pruned like this can be opened, in words.

    Args:
        config: what is removed.

    Returns:
        "yes" or "no", with the reason.
    """
    if config.columns is not None and config.split == "marginal":
        return "no; layers will hold unequal numbers of states, and only ssmith loads such a model"
    if set(config.terms) & {"h", "y"}:
        return "no; recovery adds offsets that stock transformers does not know, only ssmith does"
    return "yes; stock transformers loads the result and gives the same logits"


def _needed(
    task: PruneTask, blocks: DirectoryBlocks, layer: SelectiveLayer, windows: TokenWindows
) -> tuple[Preflight, bool]:
    sizes = BlockSizes(
        m=layer.mixer.hidden_size, e=layer.e, n=layer.n, model_bytes=blocks.model_bytes(),
        block_bytes=blocks.block_bytes(),
    )  # fmt: skip
    lockstep = task.config.criterion().lockstep

    def estimate(*, from_disk: bool) -> Preflight:
        return preflight(
            sizes, windows, batch_size=len(windows) if lockstep else task.batch_size,
            kept_bytes=round(task.kept_gb * 1e9), on_disk=task.work_dir is not None,
            blocks_from_disk=from_disk, statistics=summed_numbers(task.config, layer),
        )  # fmt: skip

    whole, free = estimate(from_disk=False), free_memory()
    from_disk = task.from_disk
    if from_disk is None:
        from_disk = free is not None and whole.memory > _USABLE * free
    if from_disk and task.work_dir is None:
        raise InputError(
            f"the model needs about {_mebibytes(whole.memory)} in memory"
            + ("" if free is None else f", of which {_mebibytes(free)} are left")
            + ", and its blocks can be read one by one only with a working directory",
            next_step="pass --work-dir DIR on a disk with room for activations and weights",
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
    progress: Progress,
) -> Pruned:
    if task.work_dir is None:
        raise InputError("--work-dir is missing")
    digest, layer = blocks.digest(), _first(blocks)
    walking = WalkConfig(
        batch_size=task.batch_size,
        kept_gb=task.kept_gb,
        work_dir=task.work_dir,
        fingerprint=fingerprint(digest, windows, task.config.as_dict()),
    )
    trip = Trip(windows=windows, config=task.config, walking=walking, progress=progress)
    sizes = {name: blocks.skeleton.get_submodule(name).ssm_state_size for name in blocks.layers}
    with resident_peak() as peak:
        records = trip.take(blocks, sizes)
    facts = {
        "name": type(blocks.skeleton).__name__, "family": blocks.skeleton.config.model_type,
        "layers": len(sizes), "digest_before": digest,
    }  # fmt: skip
    done = Pruned(
        receipt=receipt_of(task.config, windows, records, facts, forewarned(task.config, layer)),
        plans=plans_of(records, task.config, digest),
        weights=weights_of(records),
    )
    done = _told(done, task, needed, peak)
    if task.out is not None and Group.current().rank == 0:
        store = DirectoryStore(task.work_dir, walking.fingerprint)
        assembly = Assembly(
            blocks=blocks, outcome=lambda index: store.outcome(index)[0], parent=digest
        )
        with new_directory(task.out, overwrite=task.overwrite, marker=MANIFEST) as scratch:
            files = {RECEIPT: done.receipt.to_json(), **_plans(done)}
            assembly.write(scratch, facts=_card(done), files=files)
    return done


def _told(done: Pruned, task: PruneTask, needed: Preflight, peak: ResidentPeak) -> Pruned:
    receipt = task.told(done.receipt, peak=peak, estimated=needed.as_dict())
    return dataclasses.replace(done, receipt=receipt)


def _card(done: Pruned) -> dict[str, Any]:
    removed = [
        f"{facts['fraction']:.1%} of {unit} ({facts['before']:,} → {facts['after']:,})"
        for unit, facts in done.receipt.removed.items()
    ]
    return {
        "title": "Pruned state space language model",
        "text": [f"Removed: {'; '.join(removed)}, by {done.receipt.method['criterion']}."],
        "table": {"calibrated on": done.receipt.data["name"]},
    }


def _plans(done: Pruned) -> dict[str, str]:
    return {f"plan.{unit}.json": plan.to_json() for unit, plan in done.plans.items()}


def _mebibytes(count: int) -> str:
    return f"{count / 2**20:,.0f} MiB" if count >= 10 * 2**20 else f"{count / 2**20:,.1f} MiB"
