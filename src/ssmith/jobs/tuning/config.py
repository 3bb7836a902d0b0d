"""Everything a tuning job depends on: one JSON or YAML file says it, unknown keys are errors."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssmith.core.checks import check_choice, check_flag, check_integer, check_number
from ssmith.core.errors import ArtefactError, InputError
from ssmith.core.files import read_json
from ssmith.core.names import unknown_name
from ssmith.core.optional import require
from ssmith.data import ExamplesConfig
from ssmith.evaluation.generation import GenerationConfig
from ssmith.families.heads import POOLINGS
from ssmith.tune.adapters import Method, by_name, from_dict
from ssmith.tune.training import DATA_SETS, TrainingConfig

MERGES = ("stock", "ssmith")
_NUMBER = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")


@dataclass(frozen=True, kw_only=True)
class TuneConfig:
    """A tuning job.

    Args:
        methods: what is trained together, at least one.
        data: ``embedded:NAME``, series in ``.npz``, ``.csv`` or ``.jsonl``, examples in
            ``.jsonl`` (prompt and completion, text, or text and label), or a text: a file, a
            directory, ``stdlib:``.
        examples: how texts become token rows.
        training: how it is trained.
        published: name of a data set whose published learning rates are the start; None for the
            median over all.
        pooling: of a new head: ``"mean"`` or ``"last"``.
        train_head: whether the head is trained along; None for new heads only.
        recover_from: directory of the dense model a pruned one learns to imitate; None to learn
            from the data alone.
        imitate: share of the dense model in the loss, in [0, 1].
        generation: how answers are written and judged at the end; None for not at all.
        judged: prompts that are answered at most, ≥ 1; None for all of the test split.
        allow_partial: accept adapters that reach some layers only.
        merge: leave a model in place of an adapter: ``"stock"`` writes what was trained into the
            weights, and refuses what cannot be; ``"ssmith"`` lets the model hold state offsets
            beside them as well, which stock transformers does not know; None for an adapter.

    Raises:
        InputError: if a value is outside its domain.
    """

    methods: tuple[Method, ...]
    data: str
    examples: ExamplesConfig = dataclasses.field(default_factory=ExamplesConfig)
    training: TrainingConfig = dataclasses.field(default_factory=TrainingConfig)
    published: str | None = None
    pooling: str = "mean"
    train_head: bool | None = None
    recover_from: str | None = None
    imitate: float = 1.0
    generation: GenerationConfig | None = None
    judged: int | None = None
    allow_partial: bool = False
    merge: str | None = None

    def __post_init__(self) -> None:
        if not self.methods:
            raise InputError("methods is empty", allowed="at least one, e.g. state-offset-h")
        if self.published is not None:
            check_choice("published", self.published, DATA_SETS)
        check_choice("pooling", self.pooling, POOLINGS)
        check_number("imitate", self.imitate, at_least=0, below=1 + 1e-9)
        check_flag("allow_partial", self.allow_partial)
        if self.merge is not None:
            check_choice("merge", self.merge, MERGES)
        if self.judged is not None:
            check_integer("judged", self.judged, at_least=1)

    def as_dict(self) -> dict[str, Any]:
        """Return the resolved settings, JSON-ready; `from_dict` reads them back."""
        plain = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        return {
            **plain,
            "methods": [method.as_dict() for method in self.methods],
            "examples": dataclasses.asdict(self.examples),
            "training": self.training.as_dict(),
            "generation": dataclasses.asdict(self.generation) if self.generation else None,
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> TuneConfig:
        """Build a job from parsed JSON or YAML.

        Args:
            content: `methods` and `data`, and any other setting. A method is a name, a name with
                targets (``lora:out_proj``), or a mapping with ``method`` and its settings.

        Returns:
            The job.

        Raises:
            InputError: if a key is unknown or missing, or a value outside its domain.
        """
        _check_keys("the settings", content, cls, {"methods", "data"})
        given = dict(content)
        given["methods"] = methods_from(given["methods"])
        given["examples"] = _built("examples", ExamplesConfig, given.get("examples", {}))
        training = dict(_mapping("training", given.get("training", {})))
        for name, kind in (("report_to", tuple), ("rates", dict)):
            if name in training:
                training[name] = kind(training[name])
        given["training"] = _built("training", TrainingConfig, training)
        if given.get("generation") is not None:
            given["generation"] = _built("generation", GenerationConfig, given["generation"])
        return cls(**given)


def read_config(path: Path) -> dict[str, Any]:
    """Read settings from a ``.json``, ``.yaml`` or ``.yml`` file.

    Args:
        path: the file.

    Returns:
        Its content.

    Raises:
        InputError: if it is of another kind, or no mapping.
        ArtefactError: if it cannot be read.
        MissingExtraError: if YAML is not installed.
    """
    if path.suffix.lower() == ".json":
        content = read_json(path, by_hand=True)
    elif path.suffix.lower() in (".yaml", ".yml"):
        yaml = require("yaml", extra="hf", purpose="a YAML file of settings")
        try:
            content = _numbers(yaml.safe_load(path.read_text(encoding="utf-8")))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            reason = " ".join(str(error).split())
            raise ArtefactError(f"cannot read {path}: {reason}", next_step="check it") from error
    else:
        raise InputError(f"settings in {str(path)!r}", allowed="a .json, .yaml or .yml file")
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise InputError(f"{path} is no mapping of settings", allowed="keys and values")
    return content


def methods_from(given: Any) -> tuple[Method, ...]:
    """Return methods from their names or mappings.

    Args:
        given: a list whose items are a name (``state-offset-h``), a name with targets behind a
            colon and joined by ``+`` (``lora:in_proj+out_proj``), or a mapping with ``method``
            and its settings; or one text of such names between commas.

    Returns:
        The methods.

    Raises:
        InputError: if a method or a setting is unknown.
    """
    items = given.split(",") if isinstance(given, str) else given
    if not isinstance(items, list | tuple) or not items:
        raise InputError(f"methods is {given!r}", allowed="a list of names or mappings")
    return tuple(_method(item) for item in items)


def _method(item: Any) -> Method:
    if isinstance(item, Method):
        return item
    if isinstance(item, str):
        name, _, targets = item.strip().partition(":")
        return by_name(name, {"targets": tuple(targets.split("+"))} if targets else {})
    if isinstance(item, Mapping) and "method" in item:
        settings = dict(item)
        name = settings.pop("method")
        try:
            return by_name(str(name), settings)
        except InputError:
            # The names that files use, where every setting is spelt out.
            return from_dict(item)
    raise InputError(f"method {item!r}", allowed="a name, or a mapping with 'method'")


def _built(name: str, kind: Any, content: Any) -> Any:
    _check_keys(name, _mapping(name, content), kind, set())
    return kind(**content)


def _mapping(name: str, content: Any) -> Mapping[str, Any]:
    if not isinstance(content, Mapping):
        raise InputError(f"{name} is {content!r}", allowed="a mapping of settings")
    return content


def _check_keys(name: str, content: Mapping[str, Any], kind: Any, needed: set[str]) -> None:
    known = {item.name for item in dataclasses.fields(kind)}
    wrong = sorted(set(content) - known)
    if wrong:
        raise unknown_name(f"{name}: unknown key {wrong[0]!r}", wrong[0], sorted(known))
    missing = sorted(needed - set(content))
    if missing:
        raise InputError(
            f"{name}: {missing[0]!r} is missing",
            allowed=f"at least {', '.join(sorted(needed))}",
            next_step=f"add {missing[0]}",
        )


def _numbers(content: Any) -> Any:
    """Read ``2e-4`` as the number it is: YAML 1.1 takes it for a text."""
    if isinstance(content, dict):
        return {key: _numbers(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_numbers(value) for value in content]
    if isinstance(content, str) and _NUMBER.fullmatch(content):
        return float(content)
    return content
