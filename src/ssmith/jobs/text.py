"""Language models and text: what is measured on which windows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from ssmith import api
from ssmith.artefact import locate
from ssmith.artefact.configs import read_any_config
from ssmith.artefact.layout import FORMAT
from ssmith.artefact.tuned import base_of, head_of, is_adapter
from ssmith.core.checks import check_choice, check_integer
from ssmith.core.errors import UnsupportedError
from ssmith.core.sequences import SPLITS
from ssmith.core.text import ALL, Text
from ssmith.core.tokenizer import Tokenizer
from ssmith.core.tokens import TokenWindows
from ssmith.data import find_tokenizer
from ssmith.evaluation import SpeedConfig
from ssmith.evaluation.harness import HarnessConfig, check_harness, run_tasks
from ssmith.families import vocabulary_of


@dataclass(frozen=True, kw_only=True)
class TextConfig:
    """Which windows of a text a language model is measured on.

    Args:
        split: train, validation, selection, test or all.
        length: tokens of each window, ≥ 2.
        stride: tokens between the starts of windows, 1 to ``length``; ``length`` if None.
        windows: most windows, spread evenly over the split; all if None.
        field: key of the text in each line of a ``.jsonl`` file, or column of a ``.csv`` one.
        batch_size: windows per forward pass, ≥ 1.
        seed: of the bootstrap.
        threads: CPU threads of a speed measurement; None leaves PyTorch's setting.
        speed_seconds: time for each speed measurement.

    Raises:
        InputError: if a value is outside its domain.
    """

    split: str = "test"
    length: int = 2048
    stride: int | None = None
    windows: int | None = None
    field: str = "text"
    batch_size: int = 8
    seed: int = 0
    threads: int | None = None
    speed_seconds: float = 2.0

    def __post_init__(self) -> None:
        check_choice("split", self.split, (*SPLITS, ALL))
        check_integer("length", self.length, at_least=2)
        check_integer("batch_size", self.batch_size, at_least=1)
        check_integer("seed", self.seed, at_least=0)
        for name in ("stride", "windows"):
            if getattr(self, name) is not None:
                check_integer(name, getattr(self, name), at_least=1)

    def speed(self) -> SpeedConfig:
        """Return how speed is measured."""
        return SpeedConfig(seconds=self.speed_seconds, threads=self.threads)

    def cut(self, text: Text) -> TokenWindows:
        """Cut the windows; a length beyond the split's is no error, its one row is shorter.

        Args:
            text: what to cut.

        Returns:
            The windows.

        Raises:
            DataError: if the split is too small.
            InputError: if the stride is longer than the windows.
        """
        found = text.windows(self.length, stride=self.stride, split=self.split)
        return found if self.windows is None else found.spread(self.windows)


def reads_text(model: str) -> bool:
    """Return whether a saved model is a language model, without loading it.

    Args:
        model: a directory, a hub id or ``embedded:NAME``.

    Returns:
        False for a `SequenceModel`, and for a tuned model whose head answers for a sequence.
    """
    directory = locate(model)
    while is_adapter(directory):
        if head_of(directory) is not None:
            return False
        directory = locate(base_of(directory))
    return bool(read_any_config(directory).get("format") != FORMAT)


def load_text_for(loaded: nn.Module, model: str, data: str, field: str = "text") -> Text:
    """Load a text with the tokenizer that lies beside a model.

    Args:
        loaded: the model.
        model: where it was loaded from.
        data: the text (see `ssmith.load_text`).
        field: key of the text in each line of a ``.jsonl`` file, or column of a ``.csv`` one.

    Returns:
        The text.
    """
    return api.load_text(data, loaded, tokenizer=Path(locate(model)), field=field)


def tokenizer_for(loaded: nn.Module, model: str) -> Tokenizer:
    """Return the tokenizer that lies beside a model, or bytes where it has 256 ids.

    Args:
        loaded: the model.
        model: where it was loaded from.

    Returns:
        The tokenizer.

    Raises:
        UnsupportedError: if the model reads no text.
    """
    vocabulary = vocabulary_of(loaded)
    if vocabulary is None:
        raise UnsupportedError(f"{model} reads no text", allowed="language models")
    return find_tokenizer(locate(model), vocabulary)


def whole_rows(windows: TokenWindows, config: TextConfig) -> TokenWindows:
    """Return the windows of one timed forward pass: the first whole ones, a batch at most."""
    whole = (windows.lengths == windows.lengths.max()).nonzero().flatten()
    return windows.take(whole[: config.batch_size])


def describe(text: Text, windows: TokenWindows) -> dict[str, Any]:
    """Return the data section of a receipt: the text, its splits, and what was measured."""
    return {
        **windows.describe(),
        "counts": {name: len(stream) for name, stream in text.splits.items()},
    }


def measure_text(
    model: str, data: str | None, config: TextConfig, *, harness: HarnessConfig | None = None
) -> dict[str, Any]:
    """Measure a language model's perplexity, and tasks of lm-eval.

    Args:
        model: a directory, a hub id or ``embedded:NAME``.
        data: the text (see `ssmith.load_text`); None for tasks alone.
        config: which windows.
        harness: tasks to run as well.

    Returns:
        JSON-ready: model, data, metric, perplexity and bits per byte with intervals, paths, and
        ``lm_eval``, a row for each metric of each task.
    """
    check_harness(harness)
    loaded = api.load(model)
    tasks = []
    if harness is not None:
        tasks = [
            item.as_dict() for item in run_tasks(loaded, tokenizer_for(loaded, model), harness)
        ]
    if data is None:
        return {"model": model, "lm_eval": tasks}
    windows = config.cut(load_text_for(loaded, model, data, config.field))
    found = api.evaluate(loaded, windows, seed=config.seed, batch_size=config.batch_size)
    return {
        "model": model,
        "data": windows.describe(),
        "split": config.split,
        **found.describe(),
        "text": str(found),
        "lm_eval": tasks,
    }
