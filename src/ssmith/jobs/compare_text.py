"""Compare two language models on the same text: perplexity in pairs, speed, memory and size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from ssmith import api
from ssmith.artefact import locate
from ssmith.core.errors import ModelError
from ssmith.core.inspection import Inspection
from ssmith.core.layers import STATES
from ssmith.core.receipt import Receipt, versions
from ssmith.core.text import Text
from ssmith.core.tokens import TokenWindows
from ssmith.evaluate import SpeedConfig
from ssmith.families import vocabulary_of
from ssmith.jobs.pilot.costs import measure_language_costs
from ssmith.jobs.progress import Progress, silent
from ssmith.jobs.text import TextConfig, load_text_for, reads_text


@dataclass(frozen=True, kw_only=True)
class CompareTextConfig(TextConfig):
    """What to compare.

    Args:
        split: train, validation, selection, test or all.
        length: tokens of each window, ≥ 2.
        stride: tokens between the starts of windows; ``length`` if None.
        windows: most windows, from the first on; all if None.
        field: key of the text in each line of a ``.jsonl`` file.
        batch_size: windows per forward pass, also when timed, ≥ 1.
        seed: of resampling.
        threads: CPU threads; None leaves PyTorch's setting.
        speed_seconds: time for each of the two speed measurements.
    """

    threads: int | None = None
    speed_seconds: float = 2.0

    def speed(self) -> SpeedConfig:
        """Return how speed is measured."""
        return SpeedConfig(seconds=self.speed_seconds, threads=self.threads)


def compare_text(
    before: str,
    after: str,
    data: str,
    config: CompareTextConfig,
    *,
    command: Sequence[str] = (),
    progress: Progress = silent,
) -> Receipt:
    """Compare two language models; nothing is judged and nothing is written.

    Args:
        before: a directory, a hub id or ``embedded:NAME``.
        after: the same for the second model.
        data: the text (see `ssmith.load_text`).
        config: what to compare.
        command: the command line to repeat it, for the receipt.
        progress: told after each part.

    Returns:
        The receipt, without a verdict.

    Raises:
        ModelError: if the two models do not read the same tokens.
    """
    models = _load(before), _load(after)
    known = [vocabulary_of(model) for model in models]
    if known[0] != known[1]:
        raise ModelError(
            f"the first model knows {known[0]} token ids, the second {known[1]}",
            allowed="two models of one vocabulary",
        )
    text = load_text_for(models[0], before, data, config.field)
    windows = config.cut(text)
    quality = api.compare(
        models[0], models[1], windows, seed=config.seed, batch_size=config.batch_size
    )
    progress("quality", 1, 1)
    costs = measure_language_costs(
        models, (locate(before), locate(after)), whole_rows(windows, config), config.speed()
    )
    progress("speed and memory", 1, 1)
    found = api.inspect(models[0], before), api.inspect(models[1], after)
    return Receipt(
        action="compare",
        model={
            "name": f"{before} → {after}",
            "family": sorted({layer.family for layer in found[0].layers}),
            "task": "language modelling",
            "layers": len(found[0].layers),
            "digest_before": found[0].digest,
            "digest_after": found[1].digest,
        },
        method={"command": list(command)},
        seed=config.seed,
        versions=versions(),
        data=describe(text, windows),
        removed=_removed(found),
        quality=quality.as_dict(),
        details={
            "changes": [
                {"kind": item.kind, "name": item.name, "text": item.text}
                for item in costs.changes()
            ]
        },
        **costs.sections(),
    )


def whole_rows(windows: TokenWindows, config: TextConfig) -> TokenWindows:
    """Return the windows of one timed forward pass: the first whole ones, at most a batch."""
    whole = (windows.lengths == windows.lengths.max()).nonzero().flatten()
    return windows.take(whole[: config.batch_size])


def describe(text: Text, windows: TokenWindows) -> dict[str, Any]:
    """Return the data section of a receipt: the text, its splits, and what was measured."""
    return {
        **windows.describe(),
        "counts": {name: len(stream) for name, stream in text.splits.items()},
    }


def _load(model: str) -> nn.Module:
    if not reads_text(model):
        raise ModelError(
            f"{model} is no language model", allowed="two language models, or two sequence models"
        )
    return api.load(model)


def _removed(found: tuple[Inspection, Inspection]) -> dict[str, Any]:
    """Return states that are on, before and after; nothing where they did not become fewer."""
    first, second = (
        sum(layer.units.get(STATES, 0) - layer.masked.get(STATES, 0) for layer in item.layers)
        for item in found
    )
    if not 0 < second < first:
        return {}
    return {STATES: {"before": first, "after": second, "fraction": 1 - second / first}}
