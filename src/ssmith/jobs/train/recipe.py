"""Recipes: everything a training depends on but its seed, in one JSON or YAML file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from ssmith.core.checks import check_choice
from ssmith.core.errors import InputError
from ssmith.core.files import to_json
from ssmith.core.preparation import PrepareConfig
from ssmith.core.seeds import generator, seeded
from ssmith.core.sequences import SequenceData
from ssmith.core.settings import from_mapping, read_settings, to_mapping
from ssmith.evaluation import OwnMetricConfig
from ssmith.evaluation.wishes import DecisionConfig
from ssmith.families import (
    HeadConfig,
    SequenceConfig,
    SequenceModel,
    TaskModel,
    new_task_model,
)
from ssmith.families.hf import SIZES, LanguageSize, MambaSize
from ssmith.tune.training import FitConfig, LanguageFitConfig


@dataclass(frozen=True, kw_only=True)
class Texts:
    """What a language model is trained and measured on.

    Args:
        text: a file or directory (see `ssmith.load_text`), or
        packages: installed packages, name → version, whose Python sources are read, and
        bytes: the most to read of them.
        held_out: the text whose validation and test splits it is measured on; empty for
            ``stdlib:`` with packages, and for the text's own splits otherwise.

    Raises:
        InputError: if it names neither packages nor a text, or both.
    """

    text: str = ""
    packages: Mapping[str, str] = field(default_factory=dict)
    bytes: int = 0
    held_out: str = ""

    def __post_init__(self) -> None:
        if bool(self.text) == bool(self.packages) or bool(self.packages) != bool(self.bytes):
            raise InputError(
                f"text {self.text!r}, packages {dict(self.packages)!r}, bytes {self.bytes!r}",
                allowed="packages and bytes, or text; with either, held_out",
                next_step='packages are versions by name, e.g. {"numpy": "2.4.6"}',
            )


MAMBA = "mamba"
"""Family of sequence models that are a Mamba of transformers under a head."""
_UNREAD = 2
"""Tokens of a model that reads a series: it has an embedding of them, and never looks at it."""


@dataclass(frozen=True, kw_only=True)
class Recipe(OwnMetricConfig):
    """Everything a training run depends on but its seed.

    The user's own metric, if there is one, chooses the epoch that is kept and stops the training.

    Args:
        data: for a sequence model ``embedded:NAME`` or a file (see `ssmith.load_data`), for a
            language model settings of `Texts`.
        model: settings of `SequenceConfig` but those the data decides, or with the family
            ``mamba`` of `MambaSize`; of a language model, a family (``mamba`` if none is named,
            ``mamba2`` or ``hybrid``) and the settings of its size but the vocabulary, which is
            bytes.
        fit: settings of `FitConfig` or `LanguageFitConfig` but the seed.
        kind: what is trained.
        prepare: settings of `PrepareConfig` for data that is recordings, which are cut and scaled;
            None for data that is taken as it is.
        decide: settings of `DecisionConfig` for the thresholds that are kept with the model.
        title: headline of the model's card.
        notes: sentences for the card.

    Raises:
        InputError: if the data is not of the kind.
    """

    data: str | dict[str, Any]
    model: dict[str, Any]
    fit: dict[str, Any]
    kind: Literal["sequence", "language"] = "sequence"
    prepare: dict[str, Any] | None = None
    decide: dict[str, Any] = field(default_factory=dict)
    title: str = ""
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.data, str) != (self.kind == "sequence"):
            raise InputError(
                f"data is {self.data!r} in a recipe of kind {self.kind!r}",
                allowed="a name or a file for 'sequence', a mapping for 'language'",
            )
        self.check_own(answers=self.kind == "sequence")
        if self.prepare is not None:
            self.prepare_config()
        if self.kind == "language":
            self.language_fit(0)
            self.size()
            self.texts()
        else:
            self.fit_config(0)
        self.wish()

    @classmethod
    def load(cls, path: Path) -> Recipe:
        """Read a recipe, and check what can be checked without its data.

        Args:
            path: a ``.json`` or ``.yaml`` file.

        Returns:
            The recipe.

        Raises:
            InputError: if a key is unknown or missing, or a value not allowed.
            ArtefactError: if the file is unreadable or malformed.
        """
        return from_mapping(cls, read_settings(path), where=str(path))

    def to_json(self) -> str:
        """Render as JSON."""
        return to_json(to_mapping(self))

    def texts(self) -> Texts:
        """Return the texts of a language model."""
        return from_mapping(Texts, self.data, where="data")

    def size(self) -> LanguageSize:
        """Return the size of a language model."""
        family = self.model.get("family", MAMBA)
        check_choice("family", family, tuple(SIZES))
        asked = {name: value for name, value in self.model.items() if name != "family"}
        return from_mapping(SIZES[family], asked, where="model", decided={"vocabulary": 256})

    def new_model(self, data: SequenceData, seed: int) -> SequenceModel | TaskModel:
        """Return an untrained sequence model for a data set."""
        if self.model.get("family") != MAMBA:
            with seeded(seed, "initial values"):
                return SequenceModel(self.model_config(data), generator(seed, "state space"))
        asked = {name: value for name, value in self.model.items() if name != "family"}
        pooling = asked.pop("pooling", "mean")
        size = from_mapping(MambaSize, asked, where="model", decided={"vocabulary": _UNREAD})
        if data.vocabulary is not None:
            size = replace(size, vocabulary=max(_UNREAD, data.vocabulary))
        return new_task_model(size, HeadConfig(**_answered(data), pooling=pooling), seed=seed)

    def model_config(self, data: SequenceData) -> SequenceConfig:
        """Return the configuration of a sequence model for a data set."""
        decided = {**_answered(data), "vocabulary": data.vocabulary}
        return from_mapping(SequenceConfig, self.model, where="model", decided=decided)

    def prepare_config(self) -> PrepareConfig:
        """Return how recordings become rows."""
        return from_mapping(PrepareConfig, self.prepare, where="prepare")

    def wish(self) -> DecisionConfig:
        """Return what is wanted of the answers."""
        return from_mapping(DecisionConfig, self.decide, where="decide")

    def fit_config(self, seed: int) -> FitConfig:
        """Return the training settings of a sequence model, with a seed."""
        return from_mapping(FitConfig, self.fit, where="fit", decided={"seed": seed})

    def language_fit(self, seed: int) -> LanguageFitConfig:
        """Return the training settings of a language model, with a seed."""
        return from_mapping(LanguageFitConfig, self.fit, where="fit", decided={"seed": seed})


def _answered(data: SequenceData) -> dict[str, Any]:
    """Return what a data set says of a model: what it reads and answers."""
    part = data.split("train")
    targets = part.y[0].numel() if len(part) else 1
    return {
        "task": data.task,
        "classes": data.classes,
        "outputs": len(data.classes) if data.task == "classification" else targets,
        "channels": None if data.vocabulary is not None else part.x.shape[2],
    }
