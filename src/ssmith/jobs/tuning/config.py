"""Everything a tuning job depends on: one JSON or YAML file says it, unknown keys are errors."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any

from ssmith.core.checks import check_choice, check_flag, check_integer, check_number
from ssmith.core.errors import InputError
from ssmith.data import ExamplesConfig
from ssmith.evaluation import OwnMetricConfig
from ssmith.evaluation.generation import GenerationConfig
from ssmith.families.heads import POOLINGS
from ssmith.tune.adapters import Method
from ssmith.tune.adapters.merge import MERGES
from ssmith.tune.training import DATA_SETS, TrainingConfig

_SHARED = {
    "rank": "lora, dora and other methods with one", "alpha": "lora, dora",
    "targets": "lora, dora and other methods with them", "size": "auto",
}  # fmt: skip
"""Settings that are given for all methods that have them, and which do."""
_WHOLE = ("all-linear", "official")


@dataclass(frozen=True, kw_only=True)
class TuneConfig(OwnMetricConfig):
    """A tuning job.

    The user's own metric, if there is one, chooses the step that is kept and the method that
    ``auto`` becomes, and stops the training.

    Args:
        methods: what is trained together, at least one.
        rank: of every method that has one, in place of its own; None to leave it.
        alpha: of LoRA and DoRA, in place of theirs; None to leave it.
        targets: of every method that has them, in place of its own: ``all-linear``, or names of
            modules; None to leave them.
        size: of ``auto``: what the adapter may store at most, as a share of the model's numbers, in
            (0, 1]; 1 for full tuning, too; None for a quarter.
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
    """

    methods: tuple[Method, ...]
    data: str
    rank: int | None = None
    alpha: float | None = None
    targets: tuple[str, ...] | None = None
    size: float | None = None
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
        super().__post_init__()
        if not self.methods:
            raise InputError("methods is empty", allowed="at least one, e.g. state-offset-h")
        for name in _SHARED:
            if getattr(self, name) is not None:
                object.__setattr__(self, "methods", self._with(name))
        if self.published is not None:
            check_choice("published", self.published, DATA_SETS)
        check_choice("pooling", self.pooling, POOLINGS)
        check_number("distill_weight", self.distill_weight, at_least=0, below=1 + 1e-9)
        check_flag("allow_partial", self.allow_partial)
        if self.merge is not None:
            check_choice("merge", self.merge, MERGES)
        if self.judged is not None:
            check_integer("judged", self.judged, at_least=1)

    def _with(self, name: str) -> tuple[Method, ...]:
        """Return the methods with one setting put into all that have it."""
        value = getattr(self, name)
        methods: tuple[Any, ...] = self.methods
        able = [name in {item.name for item in fields(method)} for method in methods]
        if not any(able):
            labels = ", ".join(method.label() for method in self.methods)
            raise InputError(
                f"{name} is {value!r}, and {labels} has none",
                allowed=_SHARED[name],
                next_step="leave it out, or choose such a method",
            )
        whole = isinstance(value, tuple) and value[0] in _WHOLE
        given: Any = value[0] if whole else value
        return tuple(
            replace(method, **{name: given}) if has else method
            for method, has in zip(methods, able, strict=True)
        )
