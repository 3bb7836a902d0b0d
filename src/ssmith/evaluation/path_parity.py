"""Parity of paths: a model gives the same numbers whichever way it is run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

from torch import nn

from ssmith.core.errors import InputError
from ssmith.core.tokens import TokenWindows
from ssmith.evaluation.language_paths import (
    Rounding,
    count_checks,
    language_checks,
    tokens_for,
)
from ssmith.evaluation.path_checks import NotCompared, PathCheck, PathParity, PathParityConfig
from ssmith.evaluation.path_perplexity import perplexity_checks
from ssmith.evaluation.path_speed import language_speeds
from ssmith.evaluation.perplexity import check_vocabulary
from ssmith.evaluation.sequence_paths import sequence_checks, sequence_speeds
from ssmith.families import SequenceModel
from ssmith.families.hf import engine
from ssmith.families.paths import require_scan, scan_path

Listener = Callable[[str, int, int, str], None]
"""Is told the stage, how many of how many comparisons are made, and the last one's name."""


def check_paths(
    model: nn.Module,
    config: PathParityConfig | None = None,
    text: TokenWindows | None = None,
    *,
    listener: Listener | None = None,
) -> PathParity:
    """Run a model every way there is on random input, and compare what comes out.

    Whole against step by step and against chunks with a carried state, padded in a batch against
    alone, and on every path the scan has. A language model also with a state rounded to bfloat16,
    with a given first state, by the tokens it generates, and by its perplexity on a text; in its
    own dtype and in float64, as a sequence model is in float32 and float64.

    Args:
        model: a `SequenceModel`, or a transformers language model with selective layers; it is
            left as it was.
        config: what is run.
        text: what perplexity is compared on, for language models; it is not compared if None.
        listener: is told how far it is, with language models.

    Returns:
        Every comparison with its tolerance, the paths that ran, and how fast each is.

    Raises:
        InputError: if a setting does not apply to the model.
        DataError: if a token of the text is outside the model's vocabulary.
        UnsupportedError: if no layer is known, or the scan does not take the required path.
    """
    config = PathParityConfig() if config is None else config
    if isinstance(model, SequenceModel):
        return _sequence(model, config, text)
    with engine(model) as report:
        if config.backend is not None:
            require_scan(model, config.backend)
    if text is not None:
        check_vocabulary(model, text)
    found: list[PathCheck | NotCompared | Rounding] = []
    for item in _language(model, config, text):
        found.append(item)
        if listener is not None and isinstance(item, PathCheck):
            made = sum(isinstance(other, PathCheck) for other in found)
            listener("compare", made, max(made, count_checks(model, config)), item.name)
    return PathParity(
        model=type(model).__name__,
        stock=config.stock,
        paths=() if config.stock else tuple(map(_as_dict, report.paths)),
        checks=tuple(item for item in found if isinstance(item, PathCheck)),
        left_out=tuple(item for item in found if isinstance(item, NotCompared)),
        speeds=tuple(language_speeds(model, tokens_for(model, config), stock=config.stock)),
        text=None if text is None else text.describe(),
        rounding=next((item.difference for item in found if isinstance(item, Rounding)), None),
    )


def _language(
    model: Any, config: PathParityConfig, text: TokenWindows | None
) -> Iterator[PathCheck | NotCompared | Rounding]:
    yield from language_checks(model, config)
    if text is not None and not config.stock:
        yield from perplexity_checks(model, text)
        return
    reason = "stock code has one path" if config.stock else "no text was given that it can read"
    yield NotCompared(name="perplexity on each path", reason=reason)


def _sequence(
    model: SequenceModel, config: PathParityConfig, text: TokenWindows | None
) -> PathParity:
    if text is not None:
        raise InputError(
            f"text {text.name!r} for a model of sequences", allowed="a text for language models"
        )
    if config.backend is not None:
        require_scan(model, config.backend)
    left = NotCompared(
        name="step by step, and chunks", reason="a bidirectional model needs the future"
    )
    return PathParity(
        model=type(model).__name__,
        stock=False,
        paths=(_as_dict(scan_path(model)),),
        checks=tuple(sequence_checks(model, config)),
        left_out=(left,) if model.config.options.bidirectional else (),
        speeds=tuple(sequence_speeds(model, config)),
    )


def _as_dict(choice: Any) -> dict[str, str]:
    return {key: str(value) for key, value in asdict(choice).items()}
