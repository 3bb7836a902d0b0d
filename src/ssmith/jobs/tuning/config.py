"""Everything a tuning job depends on: one JSON or YAML file says it, unknown keys are errors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ssmith.core.checks import check_choice, check_flag, check_integer, check_number
from ssmith.core.errors import InputError
from ssmith.core.settings import from_mapping, to_mapping
from ssmith.data import ExamplesConfig
from ssmith.evaluation.generation import GenerationConfig
from ssmith.families.heads import POOLINGS
from ssmith.tune.adapters import Method, by_name, from_dict
from ssmith.tune.training import DATA_SETS, TrainingConfig

MERGES = ("stock", "ssmith")


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
        teacher: the dense model whose predictions a pruned one learns; None to learn from the data
            alone.
        distill_weight: share of the teacher in the loss, in [0, 1].
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
    examples: ExamplesConfig = field(default_factory=ExamplesConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    published: str | None = None
    pooling: str = "mean"
    train_head: bool | None = None
    teacher: str | None = None
    distill_weight: float = 1.0
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
        check_number("distill_weight", self.distill_weight, at_least=0, below=1 + 1e-9)
        check_flag("allow_partial", self.allow_partial)
        if self.merge is not None:
            check_choice("merge", self.merge, MERGES)
        if self.judged is not None:
            check_integer("judged", self.judged, at_least=1)

    def as_dict(self) -> dict[str, Any]:
        """Return the resolved settings, JSON-ready; `from_dict` reads them back."""
        return to_mapping(self)

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
        given = dict(content)
        if "methods" in given:
            given["methods"] = methods_from(given["methods"])
        return from_mapping(cls, given, where="settings")


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
