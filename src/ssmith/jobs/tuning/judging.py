"""What tuning was worth: the test split before and after, in pairs, and written answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor, nn

from ssmith.core.progress import Progress
from ssmith.core.sections import JudgedAnswers, Measured, Sides
from ssmith.core.tokenizer import Tokenizer
from ssmith.evaluation import OwnMetric, compare_own
from ssmith.evaluation.generation import (
    GenerationConfig,
    generate,
    judge_labels,
    judge_texts,
    text_metrics,
    written_with,
)
from ssmith.evaluation.intervals import LEAST_UNITS, bootstrap_ratios, quantile
from ssmith.evaluation.metrics import Outcomes

LEVEL = 0.95
RESAMPLES = 2000
_MOST_LABELS = 32


def compare_measures(
    after: Float64[Tensor, "n k"],
    before: Float64[Tensor, "n k"] | None,
    names: Sequence[str],
    seed: int,
) -> dict[str, Sides]:
    """Return each measure's mean with a bootstrap interval over rows, and the differences.

    Tables are from `row_measures`, of the same rows.
    """
    tables = [after] if before is None else [after, before]
    # Rows that are copies are measured alike.
    units = len(torch.cat(tables, dim=1).unique(dim=0))
    found = {}
    for column, name in enumerate(names):
        sums = [Outcomes(numerator=table[:, column], weight=table[:, -1]) for table in tables]
        # The same rows are drawn of both, so that differences are of the same rows.
        draws = None
        if units >= LEAST_UNITS:
            draws = bootstrap_ratios(sums, seed=seed, resamples=RESAMPLES)
        values = [float(item.numerator.sum()) / item.total for item in sums]
        columns = [None, None] if draws is None else [*draws.unbind(1)]
        found[name] = Sides(after=_interval(values[0], columns[0]))
        if before is not None:
            gaps = None if draws is None else draws[:, 0] - draws[:, 1]
            found[name] = replace(
                found[name],
                before=_interval(values[1], columns[1]),
                difference=_interval(values[0] - values[1], gaps),
            )
    return found


def judged_own(own: OwnMetric, said: Sequence[tuple[Tensor, Tensor]], seed: int) -> Sides:
    """Return an own metric of the answers after, and where there are any, of those before."""
    after, y = said[0]
    if len(said) == 1:
        return Sides(after=Measured(value=own(after, y)))
    found = compare_own(own, said[1][0], after, y, seed=seed)
    return Sides(
        after=Measured(value=found.after),
        before=Measured(value=found.before),
        difference=Measured(value=found.after - found.before, low=found.low, high=found.high),
    )


def answer(
    model: nn.Module,
    examples: Sequence[Any],
    tokenizer: Tokenizer,
    config: GenerationConfig,
    progress: Progress,
    *,
    most: int | None = None,
) -> JudgedAnswers:
    """Write an answer to each different prompt, and judge it.

    Where all references together are a few short labels (at most 32, one for each prompt), answers
    are read as labels, and one that is none of them counts as wrong.
    """
    prompts, references = _asked(examples, most)

    def told(done: int, total: int) -> None:
        progress("answers", done, total)

    answers, ended = generate(model, prompts, tokenizer, config, told)
    labels, unparsable = _labels(references), None
    if labels:
        accuracy, unparsable = judge_labels(answers, [texts[0] for texts in references], labels)
        metrics = {"accuracy": accuracy}
    else:
        metrics = judge_texts(answers, references)
    settings = written_with(tokenizer, config)
    return JudgedAnswers(
        count=len(answers),
        metrics=metrics,
        unparsable=unparsable,
        unended=ended.count(False),
        settings=settings,
        answers=tuple(answers),
    )


def check_judge(examples: Sequence[Any], most: int | None) -> None:
    """Raise `MissingExtraError` if the answers to these could not be judged."""
    if not _labels(_asked(examples, most)[1]):
        text_metrics()


def _asked(
    examples: Sequence[Any], most: int | None
) -> tuple[tuple[Tensor, ...], tuple[tuple[str, ...], ...]]:
    """Return each different prompt, and all that is known as its answers."""
    known: dict[tuple[int, ...], tuple[Tensor, tuple[str, ...]]] = {}
    for example in examples:
        prompt = example.ids[: example.asked]
        key = tuple(prompt.tolist())
        before = known.get(key, (prompt, ()))[1]
        known[key] = (prompt, tuple(dict.fromkeys((*before, *example.references))))
    prompts, references = zip(*list(known.values())[:most], strict=True)
    return prompts, references


def _labels(references: Sequence[tuple[str, ...]]) -> list[str]:
    """Return what answers are read as one of; nothing where they are texts."""
    labels = sorted({text.strip() for texts in references for text in texts})
    few = len(labels) <= min(_MOST_LABELS, len(references) // 2)
    return labels if few and all(len(texts) == 1 for texts in references) else []


def _interval(value: float, draws: Tensor | None) -> Measured:
    if draws is None:
        return Measured(value=value)
    low, high = (quantile(draws, share) for share in ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return Measured(value=value, low=low, high=high)
