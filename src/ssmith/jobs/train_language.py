"""Train a language model from a recipe: one JSON file says everything but the seed."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from ssmith import data
from ssmith.core.errors import InputError
from ssmith.core.files import to_json
from ssmith.core.progress import Progress, silent
from ssmith.core.text import Text, TokenStream
from ssmith.core.tokens import TokenWindows
from ssmith.evaluation.perplexity import bits, window_losses
from ssmith.families.hf import EngineReport, MambaSize, accelerate_, new_mamba, restore_
from ssmith.jobs.recipe_file import check_settings, read_recipe
from ssmith.tune.language import LanguageFit, LanguageFitConfig, fit_language_

KIND = "language"
RECIPE = "recipe.json"
_VALIDATION_WINDOWS = 64


@dataclass(frozen=True, kw_only=True)
class LanguageRecipe:
    """Everything the training of a language model depends on but its seed.

    Args:
        data: either ``packages`` (name → version) and ``bytes``, the most to read of their Python
            sources; or ``text``, a file or directory (see `ssmith.load_text`). And ``held_out``,
            the text whose validation and test splits it is measured on: ``stdlib:`` for packages
            by default, the text's own splits otherwise.
        model: settings of `MambaSize` but the vocabulary, which is bytes.
        fit: settings of `LanguageFitConfig` but the seed.
        kind: ``"language"``, which tells it from a recipe for sequences.
        title: headline of the model's card.
        notes: sentences for the card.
    """

    data: dict[str, Any]
    model: dict[str, Any]
    fit: dict[str, Any]
    kind: str = KIND
    title: str = ""
    notes: tuple[str, ...] = ()

    @classmethod
    def load(cls, path: Path) -> LanguageRecipe:
        """Read a recipe.

        Args:
            path: a JSON file.

        Returns:
            The recipe.

        Raises:
            InputError: if a key is unknown or missing, or a value is of another kind.
            ArtefactError: if the file is unreadable or not JSON.
        """
        kinds = {"data": dict, "model": dict, "fit": dict, "kind": str, "title": str, "notes": list}
        recipe = cls(**read_recipe(path, kinds, {"data", "fit", "kind", "model"}))
        recipe.size()
        recipe.fit_config(0)
        recipe.check_data()
        return recipe

    def to_json(self) -> str:
        """Render as JSON."""
        return to_json(dataclasses.asdict(self))

    def size(self) -> MambaSize:
        """Return the model's size.

        Returns:
            The size.

        Raises:
            InputError: if a key is unknown or missing, or a value is not allowed.
        """
        check_settings("model", self.model, MambaSize, without={"vocabulary"})
        return MambaSize(**self.model)

    def fit_config(self, seed: int) -> LanguageFitConfig:
        """Return the training settings with a seed.

        Args:
            seed: everything random is derived from it.

        Returns:
            The settings.

        Raises:
            InputError: if a key is unknown or missing, or a value is not allowed.
        """
        check_settings("fit", self.fit, LanguageFitConfig, without={"seed"})
        return LanguageFitConfig(**self.fit, seed=seed)

    def check_data(self) -> None:
        """Refuse a ``data`` that names neither packages nor a text, or both.

        Raises:
            InputError: if it does.
        """
        keys = set(self.data) - {"held_out"}
        if keys not in ({"packages", "bytes"}, {"text"}):
            raise InputError(
                f"data has {sorted(self.data)}",
                allowed="packages and bytes, or text; with either, held_out",
            )
        packages = self.data.get("packages", {})
        named = isinstance(packages, dict) and all(
            isinstance(version, str) for version in packages.values()
        )
        if not named or not isinstance(self.data.get("bytes", 1), int):
            raise InputError(
                f"data.packages is {packages!r}, data.bytes {self.data.get('bytes')!r}",
                allowed='versions by package, e.g. {"numpy": "2.4.6"}, and a number of bytes',
            )


@dataclass(frozen=True, kw_only=True)
class LanguageData:
    """The texts of one training.

    Args:
        train: what is learned.
        held_out: what quality is measured on, in splits.
        facts: what they are, JSON-ready, for checkpoint and card.
    """

    train: TokenStream
    held_out: Text
    facts: dict[str, Any] = field(default_factory=dict)


def language_data(recipe: LanguageRecipe) -> LanguageData:
    """Read the texts a recipe names; none of the training text is in the held-out one.

    Args:
        recipe: see `LanguageRecipe`.

    Returns:
        Training stream and held-out text.
    """
    if "text" in recipe.data:
        text = data.load_text(recipe.data["text"])
        held_out = data.load_text(recipe.data["held_out"]) if "held_out" in recipe.data else text
        train = text.split("train" if held_out is text else "all")
        about = {"name": text.name, "source": text.source, "sha256": text.sha256, **text.details}
    else:
        spec = recipe.data.get("held_out", data.STDLIB_SPEC)
        held_out = data.load_text(spec)
        read = data.read_packages(
            recipe.data["packages"], size=recipe.data["bytes"], avoid=data.read_source(spec)
        )
        train = data.stream_of(read.items, data.ByteTokenizer())
        about = {
            "name": read.name,
            "source": read.source,
            "sha256": read.sha256,
            **read.details,
            "tokenizer": "bytes",
            "between_documents": "id 0",
        }
    facts = {
        "train": {**about, "tokens": len(train)},
        "held_out": {"name": held_out.name, "source": held_out.source, "sha256": held_out.sha256},
    }
    return LanguageData(train=train, held_out=held_out, facts=facts)


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A trained language model and how it came to be.

    Args:
        model: in evaluation mode, on the CPU, without the engine.
        fit: what happened in training.
        data: the texts.
        engine: which paths ran.
    """

    model: nn.Module
    fit: LanguageFit
    data: LanguageData
    engine: EngineReport


def train_language(
    recipe: LanguageRecipe,
    *,
    seed: int = 0,
    device: str = "cpu",
    checkpoint: Path | None = None,
    progress: Progress = silent,
) -> Trained:
    """Train a language model; the same recipe and seed give the same bytes on the same machine.

    Args:
        recipe: data, size and settings.
        seed: weights and order are derived from it.
        device: where to train.
        checkpoint: file to resume from and to write every few minutes.
        progress: told after each step.

    Returns:
        The model after the last step, and what happened.
    """
    size, config = recipe.size(), recipe.fit_config(seed)
    texts = language_data(recipe)
    model = new_mamba(size, seed=seed).to(device)
    engine = accelerate_(model)
    windows = validation_windows(texts.held_out, config.length)

    def validate(model: nn.Module) -> float:
        losses = window_losses(model, windows, batch_size=config.batch_size)
        return bits(float(losses.sum())) / windows.scored

    def told(step: int, numbers: dict[str, float]) -> None:
        note = (
            f"{bits(numbers['loss']):.4f} bits per byte, "
            f"{numbers['tokens_per_second']:,.0f} tokens/s, "
            f"{numbers['seconds_left'] / 60:.0f} min left"
        )
        progress("train", step, config.steps, note)

    done = fit_language_(
        model,
        texts.train.ids,
        config,
        validate,
        checkpoint=checkpoint,
        facts={"data": texts.facts, "model": dataclasses.asdict(size)},
        told=told,
    )
    restore_(model)
    return Trained(model=model.to("cpu").eval(), fit=done, data=texts, engine=engine)


def validation_windows(text: Text, length: int) -> TokenWindows:
    """Return the windows training is watched on: drawn once, the same in every run."""
    stream = text.split("validation")
    fitting = max(1, min(_VALIDATION_WINDOWS, len(stream) - length + 1))
    return text.sample(fitting, min(length, len(stream)), split="validation")
