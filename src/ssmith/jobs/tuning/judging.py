"""What tuning was worth: the test split before and after, in pairs, and written answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor, nn

from ssmith.core.progress import Progress
from ssmith.core.tokenizer import Tokenizer
from ssmith.evaluation.generation import (
    GenerationConfig,
    Judged,
    generate,
    judge_labels,
    judge_texts,
)
from ssmith.evaluation.intervals import quantile, resample

LEVEL = 0.95
RESAMPLES = 2000
_MOST_LABELS = 32


def compare_measures(
    after: Float64[Tensor, "n k"],
    before: Float64[Tensor, "n k"] | None,
    names: Sequence[str],
    seed: int,
) -> dict[str, Any]:
    """Return the means of each measure with bootstrap intervals over rows, and their differences.

    Args:
        after: from `row_measures`.
        before: the same rows before tuning; None if there was nothing to compare with.
        names: of the measures.
        seed: of resampling.

    Returns:
        Name → ``after`` and, in pairs, ``before`` and ``difference``, each with value, low, high.
    """
    # One set of draws for all, so that differences are of the same rows.
    drawn = list(resample(len(after), seed=seed, resamples=RESAMPLES))
    found = {}
    for column, name in enumerate(names):
        one = _means(after, column, drawn)
        entry = {"after": _interval(*one)}
        if before is not None:
            two = _means(before, column, drawn)
            entry["before"] = _interval(*two)
            entry["difference"] = _interval(one[0] - two[0], one[1] - two[1])
        found[name] = entry
    return found


def answer(
    model: nn.Module,
    examples: Sequence[Any],
    tokenizer: Tokenizer,
    config: GenerationConfig,
    progress: Progress,
    *,
    most: int | None = None,
) -> Judged:
    """Write an answer to each different prompt, and judge it.

    Where all references together are a few short labels (at most 32, one for each prompt), answers
    are read as labels, and one that is none of them counts as wrong.

    Args:
        model: a language model.
        examples: with prompts and references.
        tokenizer: of the model.
        config: how answers are written.
        progress: told how far it is.
        most: prompts that are answered; the first ones, all if None.

    Returns:
        What they are worth.
    """
    known: dict[tuple[int, ...], tuple[Tensor, tuple[str, ...]]] = {}
    for example in examples:
        prompt = example.ids[: example.start]
        key = tuple(prompt.tolist())
        before = known.get(key, (prompt, ()))[1]
        known[key] = (prompt, tuple(dict.fromkeys((*before, *example.references))))
    prompts, references = zip(*list(known.values())[:most], strict=True)

    def told(done: int, total: int) -> None:
        progress("answers", done, total)

    answers, ended = generate(model, prompts, tokenizer, config, told)
    labels = sorted({text.strip() for texts in references for text in texts})
    unparsable = None
    if len(labels) <= min(_MOST_LABELS, len(prompts) // 2) and all(len(r) == 1 for r in references):
        accuracy, unparsable = judge_labels(answers, [texts[0] for texts in references], labels)
        metrics = {"accuracy": accuracy}
    else:
        metrics = judge_texts(answers, references)
    settings = {"beams": config.beams, "most": config.most, "least": config.least}
    return Judged(
        count=len(answers),
        metrics=metrics,
        unparsable=unparsable,
        unended=ended.count(False),
        settings=settings,
        answers=tuple(answers),
    )


def _means(found: Tensor, column: int, drawn: list[Tensor]) -> tuple[float, Tensor]:
    sums, counts = found[:, column], found[:, -1]
    means = [sums[index].sum(1) / counts[index].sum(1) for index in drawn]
    return float(sums.sum() / counts.sum()), torch.cat(means)


def _interval(value: float, draws: Tensor) -> dict[str, float]:
    low, high = (quantile(draws, share) for share in ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return {"value": value, "low": low, "high": high}
