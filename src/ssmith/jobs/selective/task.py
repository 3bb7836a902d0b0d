"""What every pruning from files to files is told, and what its receipt and folder hold."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from ssmith import artefact, data
from ssmith.calibrate.shards import Group
from ssmith.core.checks import check_integer
from ssmith.core.receipt import Receipt
from ssmith.core.text import Text
from ssmith.core.tokens import TokenWindows
from ssmith.evaluation.resident import ResidentPeak
from ssmith.jobs.outputs import RECEIPT


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Which windows a model is calibrated on.

    Args:
        data: ``stdlib:``, a text, JSONL or token file, or a directory of text.
        samples: number of windows, ≥ 1.
        length: tokens of each, ≥ 2.
        seed: of their places.
        split: of the text.
        field: key or column of the text in a ``.jsonl`` or ``.csv`` file.

    Raises:
        InputError: if a value is outside its domain.
    """

    data: str
    samples: int = 64
    length: int = 2048
    seed: int = 0
    split: str = "train"
    field: str = "text"

    def __post_init__(self) -> None:
        check_integer("samples", self.samples, at_least=1)
        check_integer("length", self.length, at_least=2)
        check_integer("seed", self.seed, at_least=0)

    def text(self, directory: Path, vocabulary: int) -> Text:
        """Read the text.

        Args:
            directory: of the model, for its tokeniser.
            vocabulary: token ids the model knows.

        Returns:
            The text.

        Raises:
            InputError: if there is no such text.
            DataError: if the text is empty, or does not fit the model.
        """
        return data.load_text(
            self.data, tokenizer=directory, vocabulary=vocabulary, field=self.field
        )

    def windows(self, directory: Path, vocabulary: int) -> TokenWindows:
        """Draw the windows from the text.

        Args:
            directory: of the model, for its tokeniser.
            vocabulary: token ids the model knows.

        Returns:
            The windows.

        Raises:
            InputError: if there is no such text.
            DataError: if the text is empty, too short, or does not fit the model.
        """
        text = self.text(directory, vocabulary)
        return text.sample(self.samples, self.length, seed=self.seed, split=self.split)


@dataclass(frozen=True, kw_only=True)
class FileTask:
    """What every pruning from files to files is told; each kind adds what is to be removed.

    Args:
        model: directory, hub id or name of an embedded model.
        calibration: on which text.
        out: the directory to make; None to decide only.
        overwrite: replace an earlier model there.
        work_dir: for what is done already; needed to go on after a kill.
        command: the command line, for the receipt.
    """

    model: str
    calibration: Calibration
    out: Path | None
    overwrite: bool = False
    work_dir: Path | None = None
    command: Sequence[str] = ()

    def told(
        self, receipt: Receipt, *, peak: ResidentPeak, estimated: Mapping[str, Any] | None = None
    ) -> Receipt:
        """Return a receipt that names the source, the command and the memory it took.

        Args:
            receipt: of the pruning.
            peak: measured.
            estimated: before it began; None where nothing was.

        Returns:
            The receipt.
        """
        memory = {} if estimated is None else {"estimated": dict(estimated)}
        return dataclasses.replace(
            receipt,
            model={**receipt.model, "source": self.model},
            method={**receipt.method, "command": list(self.command)},
            memory={**memory, "measured": peak.as_dict()},
        )

    def save(
        self, model: nn.Module, receipt: Receipt, card: dict[str, Any], files: Mapping[str, str]
    ) -> None:
        """Write a pruned model with its receipt, by one process and unless nothing is to be.

        Args:
            model: as it is now.
            receipt: of what was done.
            card: of the model's README.
            files: name → content of further files.
        """
        if self.out is None or Group.current().rank > 0:
            return
        artefact.save_selective(
            model, self.out, overwrite=self.overwrite, source=artefact.locate(self.model),
            parent=receipt.model["digest_before"], facts=card,
            extra_files={RECEIPT: receipt.to_json(), **files},
        )  # fmt: skip
