"""One model, every way to run it: what `ssmith parity` does."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
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


@dataclass(frozen=True, kw_only=True)
class PathText:
    """The text on which perplexity is compared.

    Args:
        text: as for `ssmith.load_text`; None for a module of Python's standard library, if the
            model has a tokenizer or reads bytes.
        tokens: so many of its first tokens, ≥ 2, in rows of at most 512.

    Raises:
        InputError: if ``tokens`` is outside its domain.
    """

    text: str | None = None
    tokens: int = 1024

    def __post_init__(self) -> None:
        check_integer("tokens", self.tokens, at_least=2)

    def windows(self, model: nn.Module) -> TokenWindows | None:
        """Return the rows for a language model.

        Args:
            model: what is to read them.

        Returns:
            The rows; None if no text was named and the model cannot read one.

        Raises:
            InputError: if there is nothing at ``text``, or the model cannot read it.
            DataError: if it is empty, not UTF-8, or does not fit the model.
        """
        try:
            text = api.load_text(Path(argparse.__file__) if self.text is None else self.text, model)
        except (InputError, DataError):
            if self.text is None:
                return None
            raise
        length = min(self.tokens, _ROW)
        return text.windows(length, split="all").first(max(1, self.tokens // length))


def compare_paths(
    model: nn.Module,
    config: PathParityConfig,
    text: PathText,
    *,
    progress: Progress = silent,
) -> PathParity:
    """Run a model every way there is, and compare what comes out (see `ssmith.check_paths`).

    Args:
        model: a sequence model or a language model; it is left as it was.
        config: what is run.
        text: what a language model's perplexity is compared on.
        progress: is told how far it is.

    Returns:
        Every comparison, the paths that ran, and how fast each is.

    Raises:
        InputError: if a setting does not apply to the model.
    """
    if isinstance(model, SequenceModel):
        if text.text is not None:
            raise InputError(
                f"text {text.text!r} for a model that reads no text",
                allowed="--text with language models",
            )
        return api.check_paths(model, config)
    windows = None if config.stock else text.windows(model)
    return api.check_paths(model, config, windows, listener=progress)


def kernels() -> list[str]:
    """Return a line for each operation: the path it takes on this machine, and why."""
    return [
        f"{path.op} runs on {path.backend}: {path.reason}"
        + (f"; faster: {path.remedy}" if path.remedy else "")
        for path in all_paths()
    ]
