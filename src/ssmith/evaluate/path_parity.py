"""Parity of paths: a model gives the same numbers whichever way it is run."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from torch import nn

from ssmith.evaluate.language_paths import language_checks
from ssmith.evaluate.path_checks import PathParity, PathParityConfig
from ssmith.evaluate.sequence_paths import sequence_checks
from ssmith.families import SequenceModel
from ssmith.families.hf import engine
from ssmith.families.paths import require_scan, scan_path


def check_paths(model: nn.Module, config: PathParityConfig | None = None) -> PathParity:
    """Run a model every way there is on random input, and compare what comes out.

    Whole against step by step and against chunks with a carried state, padded in a batch against
    alone, and on every path the scan has. A language model also with a state rounded to bfloat16;
    a sequence model in float64 and float32.

    Args:
        model: a `SequenceModel`, or a transformers language model with selective layers; it is
            left as it was.
        config: what is run.

    Returns:
        Every comparison with its tolerance, and the paths that ran.

    Raises:
        InputError: if a setting does not apply to the model.
        UnsupportedError: if no layer is known, or the scan does not take the required path.
    """
    config = PathParityConfig() if config is None else config
    if isinstance(model, SequenceModel):
        return _sequence(model, config)
    with engine(model) as report:
        if config.backend is not None:
            require_scan(model, config.backend)
    checks = tuple(language_checks(model, config))
    paths = () if config.stock else tuple(map(_as_dict, report.paths))
    return PathParity(model=type(model).__name__, stock=config.stock, paths=paths, checks=checks)


def _sequence(model: SequenceModel, config: PathParityConfig) -> PathParity:
    if config.backend is not None:
        require_scan(model, config.backend)
    name, reason = "step by step, and chunks", "a bidirectional model needs the future"
    return PathParity(
        model=type(model).__name__,
        stock=False,
        paths=(_as_dict(scan_path(model)),),
        checks=tuple(sequence_checks(model, config)),
        left_out=((name, reason),) if model.config.options.bidirectional else (),
    )


def _as_dict(choice: Any) -> dict[str, str]:
    return {key: str(value) for key, value in asdict(choice).items()}
