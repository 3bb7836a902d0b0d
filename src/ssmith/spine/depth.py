"""Whole blocks, removed one after the other where the calibration text misses them least."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from ssmith import artefact
from ssmith.core.errors import InputError
from ssmith.core.progress import Progress, silent
from ssmith.core.receipt import Receipt, versions
from ssmith.core.tokens import TokenWindows
from ssmith.core.words import number_of, span
from ssmith.evaluation.perplexity import window_losses
from ssmith.evaluation.resident import resident_peak
from ssmith.families import model_digest
from ssmith.families.hf.depth import block_count, drop_blocks_, without_block
from ssmith.jobs.selective.run import fingerprint, vocabulary_of
from ssmith.jobs.selective.task import FileTask
from ssmith.jobs.selective.trials import Trials

BLOCKS = "blocks"


@dataclass(frozen=True, kw_only=True)
class ShedTask(FileTask):
    """A removal of blocks from model to directory: what `FileTask` holds, and this.

    Args:
        blocks: how many go.
    """

    blocks: int


def shed_and_save(task: ShedTask, *, progress: Progress = silent) -> Receipt:
    """Remove blocks of a model from its files, and save it unless nothing is to be written.

    Args:
        task: what to do.
        progress: listener.

    Returns:
        The receipt, which is saved with the model.

    Raises:
        InputError: if there are not that many blocks to remove.
        DataError: if the text does not fit.
        UnsupportedError: if the model has no selective layer with states of its own.
    """
    directory = artefact.locate(task.model)
    with resident_peak() as peak:
        model = artefact.load(directory)
        windows = task.calibration.windows(directory, vocabulary_of(model))
        done = shed_blocks_(
            model, windows, task.blocks, seed=task.calibration.seed, work_dir=task.work_dir,
            progress=progress,
        )  # fmt: skip
    done = task.told(done, peak=peak)
    card = {
        "title": "Shallower state space language model",
        "text": [
            f"Removed: {task.blocks} of {done.model['layers']} blocks, each time the one "
            "without which the calibration text's perplexity was lowest."
        ],
        "table": {"calibrated on": windows.name},
    }
    task.save(model, done, card, {})
    return done


def shed_blocks_(
    model: nn.Module,
    windows: TokenWindows,
    blocks: int,
    *,
    seed: int = 0,
    work_dir: Path | None = None,
    progress: Progress = silent,
) -> Receipt:
    """Remove blocks of a Mamba or Falcon-Mamba model, each time the one that is missed least.

    Every block that is left is tried; the one without which the perplexity on the windows is
    lowest goes, until enough have gone. The result is a shallower model that opens everywhere.

    Args:
        model: changed in place.
        windows: calibration text; never the text the model is judged on.
        blocks: how many go, ≥ 1 and not all.
        seed: that drew the windows, for the receipt.
        work_dir: keep every measured perplexity here, and go on from what it holds.
        progress: listener.

    Returns:
        What was removed, and the perplexity after every step.

    Raises:
        InputError: if there are not that many blocks to remove, or the working directory holds
            something else.
        UnsupportedError: if the model has no selective layer with states of its own.

    Source: Mamba-Shedder, whole blocks.
    Differs: windows are drawn from a training split; its released code reads the test split.
    """
    total = block_count(model)
    if not 1 <= blocks < total:
        raise InputError(
            f"{number_of(blocks, 'block')} of {total} are to go",
            allowed=f"{span(1, total - 1)}, as one stays"
            if total > 1
            else "a model of two or more",
        )
    before, names = model_digest(model), list(range(total))
    sizes = [sum(item.numel() for item in model.parameters())]
    trials = Trials.open(work_dir, fingerprint(before, windows, {"unit": BLOCKS}))

    def loss(gone: Sequence[int]) -> float:
        return trials.loss(gone, lambda: _perplexity(model, windows))

    steps: list[dict[str, Any]] = [{"perplexity": loss(())}]
    tries, done = sum(total - gone for gone in range(blocks)), 0
    for _ in range(blocks):
        gone = [step["removed"] for step in steps[1:]]
        losses = []
        for place, block in enumerate(names):
            progress("trying blocks", done, tries, f"block {block}")
            with without_block(model, place):
                losses.append(loss([*gone, block]))
            done += 1
        least = min(range(len(losses)), key=losses.__getitem__)
        drop_blocks_(model, [least])
        steps.append({"removed": names.pop(least), "perplexity": losses[least]})
    progress("trying blocks", tries, tries, "")
    sizes.append(sum(item.numel() for item in model.parameters()))
    return Receipt(
        action="prune",
        model={
            "name": type(model).__name__, "layers": total, "digest_before": before,
            "digest_after": model_digest(model),
            "parameters": {"before": sizes[0], "after": sizes[1]},
        },
        method={
            "criterion": "blocks by perplexity", "blocks": blocks, "semantics": {BLOCKS: "remove"}
        },
        seed=seed,
        versions=versions(),
        data=windows.describe(),
        removed={
            BLOCKS: {"before": total, "after": total - blocks, "fraction": blocks / total}
        },
        findings=[],
        details={"steps": steps, "kept": names, "stability": {}},
    )  # fmt: skip


def _perplexity(model: nn.Module, windows: TokenWindows) -> float:
    return math.exp(float(window_losses(model, windows).sum()) / windows.scored)
