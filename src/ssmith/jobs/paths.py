"""One model, every way to run it: what `ssmith parity` does."""

from __future__ import annotations

import argparse
from pathlib import Path

from torch import nn

from ssmith import api
from ssmith.core.checks import check_integer
from ssmith.core.errors import DataError, InputError
from ssmith.core.progress import Progress, silent
from ssmith.core.tokens import TokenWindows
from ssmith.evaluation import PathParity, PathParityConfig
from ssmith.families import SequenceModel
from ssmith.families.paths import all_paths

_ROW = 512


def compare_paths(
    model: nn.Module,
    config: PathParityConfig,
    *,
    text: str | None = None,
    tokens: int = 1024,
    progress: Progress = silent,
) -> PathParity:
    """Run a model every way there is, and compare what comes out (see `ssmith.check_paths`).

    ``text`` is read as by `ssmith.load_text`, a module of Python's standard library if None; of it
    the first ``tokens`` count, in rows of at most 512.
    """
    check_integer("tokens", tokens, at_least=2)
    if isinstance(model, SequenceModel) and text is not None:
        raise InputError(
            f"text {text!r} for a model that reads no text", allowed="text with language models"
        )
    reads = not isinstance(model, SequenceModel) and not config.stock
    windows = _windows(model, text, tokens) if reads else None
    return api.check_paths(model, config, windows, progress=progress)


def _windows(model: nn.Module, text: str | None, tokens: int) -> TokenWindows | None:
    try:
        loaded = api.load_text(Path(argparse.__file__) if text is None else text, model)
    except (InputError, DataError):
        if text is None:
            return None
        raise
    length = min(tokens, _ROW)
    return loaded.windows(length, split="all").first(max(1, tokens // length))


def kernels() -> list[str]:
    """Return a line for each operation: the path it takes on this machine, and why."""
    return [
        f"{path.op} runs on {path.backend}: {path.reason}"
        + (f"; faster: {path.remedy}" if path.remedy else "")
        for path in all_paths()
    ]
