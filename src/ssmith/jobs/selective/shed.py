"""Whole blocks, removed one after the other where the calibration text misses them least."""

from __future__ import annotations

import math
from typing import Any

from torch import nn

from ssmith.core.errors import InputError
from ssmith.core.receipt import Receipt, versions
from ssmith.core.tokens import TokenWindows
from ssmith.evaluate.perplexity import window_losses
from ssmith.families import model_digest
from ssmith.families.hf.depth import block_count, drop_blocks_, without_block
from ssmith.jobs.progress import Progress, silent

BLOCKS = "blocks"


def shed_blocks_(
    model: nn.Module,
    windows: TokenWindows,
    blocks: int,
    *,
    seed: int = 0,
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
        progress: listener.

    Returns:
        What was removed, and the perplexity after every step.

    Raises:
        InputError: if there are not that many blocks to remove.
        UnsupportedError: if the model has no selective layer with states of its own.

    Source: Mamba-Shedder, whole blocks.
    Differs: windows are drawn from a training split; its released code reads the test split.
    """
    total = block_count(model)
    if not 1 <= blocks < total:
        raise InputError(f"{blocks} blocks of {total} are to go", allowed=f"1 to {total - 1}")
    before, names = model_digest(model), list(range(total))
    sizes = [sum(item.numel() for item in model.parameters())]
    steps: list[dict[str, Any]] = [{"perplexity": _perplexity(model, windows)}]
    tries = sum(total - gone for gone in range(blocks))
    for step in range(blocks):
        losses = []
        for place in range(len(names)):
            done = tries - sum(total - gone for gone in range(step, blocks)) + place
            progress("trying blocks", done, tries, f"block {names[place]}")
            with without_block(model, place):
                losses.append(_perplexity(model, windows))
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
