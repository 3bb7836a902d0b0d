"""The rows of a job: one split of a data set or of a text, for the model at hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from ssmith import api
from ssmith.artefact import locate
from ssmith.artefact.configs import read_any_config
from ssmith.artefact.tuned import head_of, lineage
from ssmith.core.checks import check_choice, check_integer
from ssmith.core.directories import FORMAT
from ssmith.core.errors import DataError, InputError, ModelError, UnsupportedError
from ssmith.core.findings import Finding
from ssmith.core.preparation import Preparation
from ssmith.core.rows import Rows, as_rows
from ssmith.core.sections import DataSection
from ssmith.core.seeds import permutation
from ssmith.core.sequences import SPLITS, SequenceData, Sequences, shared_rows
from ssmith.core.text import ALL, Text
from ssmith.core.tokenizer import Tokenizer
from ssmith.core.tokens import TokenWindows
from ssmith.core.told import told_of
from ssmith.data import check_fits, find_tokenizer, load_text, load_whole
from ssmith.families import answers_of, directory_of, preparation_of, vocabulary_of
from ssmith.recordings import new_rows

_LENGTH = 2048
_OF_TEXT = ("length", "stride", "windows", "field")
_SEQUENCES, _WINDOWS = 64, 8
SEQUENCES, WINDOWS = 256, 64
"""Calibration rows of sequence models and of language models, unless told otherwise."""


@dataclass(frozen=True, kw_only=True)
class RowsConfig:
    """Which rows a model is measured on.

    Args:
        split: train, validation, selection or test; of text also all.
        length: tokens of each window of text, ≥ 2; 2,048 if None.
        stride: tokens between the starts of windows, 1 to ``length``; ``length`` if None.
        windows: most windows of text, spread evenly over the split; all if None.
        field: key of the text in each line of a ``.jsonl`` file, or column of a ``.csv`` one;
            ``text`` if None.
        batch_size: rows per forward pass, ≥ 1, also when timed; 64 if None, of text 8.
    """

    split: str = "test"
    length: int | None = None
    stride: int | None = None
    windows: int | None = None
    field: str | None = None
    batch_size: int | None = None

    def __post_init__(self) -> None:
        check_choice("split", self.split, (*SPLITS, ALL))
        for name, least in (("length", 2), ("stride", 1), ("windows", 1), ("batch_size", 1)):
            if getattr(self, name) is not None:
                check_integer(name, getattr(self, name), at_least=least)

    def check_kind(self, *, text: bool) -> None:
        """Raise if a setting says nothing about the rows at hand."""
        _refuse_of_text(self, _OF_TEXT, text=text)
        if self.split == ALL and not text:
            raise InputError(f"split is {ALL!r}", allowed=", ".join(SPLITS))

    def cut(self, text: Text, split: str | None = None) -> TokenWindows:
        """Cut windows; a length beyond the split's is no error, its one row is shorter."""
        length = self.length or _LENGTH
        found = text.windows(length, stride=self.stride, split=split or self.split)
        return found if self.windows is None else found.spread(self.windows)

    def at_once(self, rows: Rows) -> int:
        """Return how many rows run in one forward pass."""
        return self.batch_size or (_WINDOWS if isinstance(rows, TokenWindows) else _SEQUENCES)


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Which rows a model is calibrated on.

    Args:
        data: ``embedded:NAME``, a file or a directory; for a language model a text. None for
            methods that need none.
        samples: how many rows, ≥ 1; 256 sequences or 64 windows if None.
        length: tokens of each window of text, ≥ 2; 2,048 if None.
        seed: of their draw, and of what is random in a method.
        split: they are drawn from; all for every row of a file, which needs no labels then.
        field: key or column of the text in a ``.jsonl`` or ``.csv`` file; ``text`` if None.
    """

    data: str | None = None
    samples: int | None = None
    length: int | None = None
    seed: int = 0
    split: str = "train"
    field: str | None = None

    def __post_init__(self) -> None:
        if self.samples is not None:
            check_integer("samples", self.samples, at_least=1)
        if self.length is not None:
            check_integer("length", self.length, at_least=2)
        check_integer("seed", self.seed, at_least=0)
        check_choice("split", self.split, (*SPLITS, ALL))

    def check_kind(self, *, text: bool) -> None:
        """Raise if a setting says nothing about the rows at hand."""
        _refuse_of_text(self, ("length", "field"), text=text)
        for name in ("samples", "length", "field") if self.data is None else ():
            if getattr(self, name) is not None:
                raise InputError(f"{name} without data", next_step="name the rows as well")

    def text(self, directory: Path, vocabulary: int) -> Text:
        """Read the text for a language model."""
        return load_text(
            self._data(),
            tokenizer=directory,
            vocabulary=vocabulary,
            field=self.field or "text",
        )

    def draw(self, loaded: SequenceData | Text) -> Rows:
        """Draw rows from a split of what was loaded."""
        usual = WINDOWS if isinstance(loaded, Text) else SEQUENCES
        count = usual if self.samples is None else self.samples
        return Source(data=loaded).sample(count, self.tokens, seed=self.seed, split=self.split)

    @property
    def tokens(self) -> int:
        """Tokens of each window."""
        return self.length or _LENGTH

    def _data(self) -> str:
        if self.data is None:
            raise InputError(
                "data is missing", allowed="rows to calibrate on", next_step="try stdlib: for text"
            )
        return self.data


def _refuse_of_text(config: object, names: Sequence[str], *, text: bool) -> None:
    for name in () if text else names:
        if getattr(config, name) is not None:
            raise InputError(f"{name} is for language models", next_step="leave it out")


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where the rows of a job come from."""

    data: SequenceData | Text | Mapping[str, Any]

    def rows(self, split: str, how: RowsConfig | None = None) -> Rows:
        """Return one split."""
        if isinstance(self.data, Text):
            return (how or RowsConfig()).cut(self.data, split)
        if isinstance(self.data, SequenceData):
            return self.data.split(split)
        if split not in self.data:
            raise InputError(
                f"there is no split {split!r}", allowed=", ".join(map(repr, self.data)),
                next_step=f"give {{{split!r}: rows}} as well",
            )  # fmt: skip
        return as_rows(self.data[split])

    def sample(self, count: int, length: int, *, seed: int, split: str = "train") -> Rows:
        """Draw rows to calibrate on, without replacement; of text windows of a length."""
        if isinstance(self.data, Text):
            return self.data.sample(count, length, seed=seed, split=split)
        if not isinstance(self.data, SequenceData):
            return self.rows("calibration")
        part = self.data.split(split)
        order = permutation(len(part), seed, "calibration")
        return part.take(order[:count].to(part.x.device))

    def findings(self) -> list[Finding]:
        """Return what must be known of the data: rows in several splits, and how it was read."""
        details = getattr(self.data, "details", {})
        return [*self.copies(), *told_of(details)]

    def copies(self) -> tuple[Finding, ...]:
        """Return what must be known of rows that are in more than one split."""
        return shared_rows(self.data) if isinstance(self.data, SequenceData) else ()

    def describe(self, rows: Rows) -> DataSection:
        """Return the data section of a receipt: the data, its splits, and what was measured."""
        if isinstance(self.data, SequenceData):
            return self.data.describe()
        if not isinstance(self.data, Text):
            return rows.describe()
        counts = {name: len(stream) for name, stream in self.data.splits.items()}
        return replace(rows.describe(), counts=counts)


def open_source(
    loaded: nn.Module,
    model: str,
    data: str,
    field: str | None = None,
    *,
    needs: Sequence[str] = (),
    columns: Sequence[str] = (),
) -> Source:
    """Open the data of a job."""
    if reads_text(model):
        return Source(data=api.load_text(data, loaded, field=field or "text"))
    return Source(data=api.load_data(data, loaded, needs=needs, columns=columns))


def every_row(loaded: nn.Module, model: str, data: str, *, labelled: bool) -> SequenceData:
    """Open all rows of a file, in its order, as the split ``all``, for a model that was loaded.

    ``labelled``: labels must be there; else they may be missing and do not count. Raises
    `ModelError` if the model does not say what it reads and predicts, `InputError` if there is no
    such file, `DataError` if it does not fit the model.
    """
    answers = answers_of(loaded)
    if answers is None:
        raise ModelError(
            f"{model} does not say what it reads and predicts",
            allowed="sequence models and language models; others from Python",
        )
    preparation = preparation_of(loaded)
    if preparation is not None:
        return _every_prepared(preparation, data, labelled=labelled)
    found = load_whole(
        data, task=answers.task, outputs=answers.outputs, classes=answers.classes,
        labelled=labelled,
    )  # fmt: skip
    check_fits(
        found, channels=answers.channels, vocabulary=answers.vocabulary, outputs=answers.outputs,
        task=answers.task,
    )  # fmt: skip
    return found


def _every_prepared(preparation: Preparation, data: str, *, labelled: bool) -> SequenceData:
    """Return all rows of recordings, made as those of the training were."""
    found = new_rows(preparation, data)
    lacks = int((~found.labelled).sum())
    if labelled and lacks:
        raise DataError(
            f"{lacks} of {len(found.rows)} rows of {data} have no label that the model knows",
            allowed=", ".join(preparation.classes) or "numbers",
        )
    return SequenceData(
        name=Path(data).stem, task=preparation.model_task, splits={ALL: found.rows},
        classes=preparation.classes, source=f"file {Path(data).name}",
        sha256=found.rows.fingerprint,
    )  # fmt: skip


def reads_text(model: str) -> bool:
    """Return whether a saved model is a language model, without loading it.

    Not a `SequenceModel`, nor a tuned model whose head answers for a sequence.
    """
    *adapters, directory = lineage(locate(model))
    headed = any(head_of(adapter) is not None for adapter in adapters)
    return not headed and read_any_config(directory).get("format") != FORMAT


def tokenizer_for(loaded: nn.Module, model: str) -> Tokenizer:
    """Return the tokenizer of a model, an adapter's of its base, or bytes where it has 256 ids."""
    vocabulary = vocabulary_of(loaded)
    if vocabulary is None:
        raise UnsupportedError(f"{model} reads no text", allowed="language models")
    return find_tokenizer(directory_of(loaded), vocabulary)


def one_batch(rows: Rows, size: int) -> Rows:
    """Return the rows of one timed forward pass: of windows the first whole ones."""
    if isinstance(rows, TokenWindows):
        return rows.take((rows.lengths == rows.lengths.max()).nonzero().flatten()[:size])
    return rows.first(size) if isinstance(rows, Sequences) else rows
