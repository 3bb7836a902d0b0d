"""Compare two language models on the same text: perplexity in pairs, speed, memory and size."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from ssmith import api
from ssmith.artefact import locate
from ssmith.core.errors import ModelError
from ssmith.core.progress import Progress, silent
from ssmith.core.receipt import Receipt
from ssmith.families import vocabulary_of
from ssmith.jobs.compare import Compared
from ssmith.jobs.pilot.costs import measure_costs
from ssmith.jobs.text import TextConfig, describe, load_text_for, reads_text, whole_rows


def compare_text(
    before: str,
    after: str,
    data: str,
    config: TextConfig,
    *,
    command: Sequence[str] = (),
    progress: Progress = silent,
) -> Receipt:
    """Compare two language models; nothing is judged and nothing is written.

    Args:
        before: a directory, a hub id or ``embedded:NAME``.
        after: the same for the second model.
        data: the text (see `ssmith.load_text`).
        config: which windows, and how speed is measured.
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
    costs = measure_costs(
        models, (locate(before), locate(after)), whole_rows(windows, config), config.speed()
    )
    progress("speed and memory", 1, 1)
    return Compared(
        names=(before, after),
        found=(api.inspect(models[0], before), api.inspect(models[1], after)),
        task="language modelling",
        data=describe(text, windows),
        quality=quality.as_dict(split=config.split),
        costs=costs,
    ).receipt(config.seed, command)


def _load(model: str) -> nn.Module:
    if not reads_text(model):
        raise ModelError(
            f"{model} is no language model", allowed="two language models, or two sequence models"
        )
    return api.load(model)
