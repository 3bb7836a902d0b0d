"""What two models do differently on the same rows: not only how much worse, but what changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor, nn

from ssmith.core.checks import check_flag, check_integer, check_number
from ssmith.core.details import AuditDetails, GroupChanged, Moved
from ssmith.core.errors import InputError, ModelError, NumericalError
from ssmith.core.files import finite_or_none
from ssmith.core.rows import Batch, Rows
from ssmith.core.sections import Measured
from ssmith.core.sequences import Sequences
from ssmith.evaluation.comparison import compare_outcomes
from ssmith.evaluation.intervals import Estimate, check_level, wilson
from ssmith.evaluation.metrics import ACCURACY, MEAN_ABSOLUTE_ERROR, Metric, Outcomes
from ssmith.evaluation.predict import over_batches, places_of, tensor_of
from ssmith.evaluation.task import targets_of

CLASS = "class"
"""Name of the groups that share a label."""
FEW = 10
"""Rows below which a bootstrap says nothing."""
_MOVED = 0.1
_QUANTILES = (0.5, 0.9, 0.99, 1.0)


@dataclass(frozen=True, kw_only=True)
class BehaviourConfig:
    """What is looked at.

    Args:
        slices: columns of the data whose values make groups, e.g. ``machine``.
        moved: change of a number that counts as another answer, in its unit; a tenth of the old
            answers' standard deviation if None.
        examples: changed rows that are named, those that became wrong first, ≥ 0.
        with_data: name them with their data; else only what they are called.
        level: confidence of all intervals of groups together, in (0.5, 1).
        prompts: of a text that both models continue, ≥ 1.
        prompt_tokens: tokens of each, ≥ 1.
        answer_tokens: tokens that are written after each, ≥ 1.
        seed: of resampling.
    """

    slices: tuple[str, ...] = ()
    moved: float | None = None
    examples: int = 20
    with_data: bool = False
    level: float = 0.95
    prompts: int = 32
    prompt_tokens: int = 32
    answer_tokens: int = 32
    seed: int = 0

    def __post_init__(self) -> None:
        check_level(self.level)
        check_number("level", self.level, above=0.5)
        check_integer("examples", self.examples, at_least=0)
        check_integer("seed", self.seed, at_least=0)
        check_flag("with_data", self.with_data)
        for name in ("prompts", "prompt_tokens", "answer_tokens"):
            check_integer(name, getattr(self, name), at_least=1)
        if self.moved is not None:
            check_number("moved", self.moved, above=0.0)
        if len(set(self.slices)) < len(self.slices) or CLASS in self.slices:
            raise InputError(
                f"slices are {', '.join(self.slices)}",
                allowed=f"each once, {CLASS} comes by itself",
            )


@dataclass(frozen=True, kw_only=True)
class Changed:
    """What changed among rows of a class, or a column's value; a loss is in the metric's unit.

    Rows are broken that were right and mended that were wrong, None for numbers.
    """

    name: str
    changed: Estimate
    broken: int | None = None
    mended: int | None = None
    before: float
    loss: Estimate

    def section(self, column: str = "") -> GroupChanged:
        """Return it for a receipt; ``column`` is that of the group where it stands alone."""
        return GroupChanged(
            column=column, name=self.name, rows=self.changed.count, changed=told(self.changed),
            broken=self.broken, mended=self.mended, before=self.before, loss=told(self.loss),
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Behaviour:
    """What changed from one model to another.

    Args:
        metric: losses are in its unit.
        whole: of all rows.
        groups: by column (``class`` for labels), the worst first; their intervals hold together.
        moves: pairs of classes, how often one became the other, most frequent first.
        sizes: quantiles of how much numbers changed, in their unit; empty for classes.
        moved: change of a number that counts as another answer; None for classes.
        examples: changed rows, by what they are called.
    """

    metric: Metric
    whole: Changed
    groups: Mapping[str, tuple[Changed, ...]] = field(default_factory=dict)
    moves: tuple[tuple[str, str, int], ...] = ()
    sizes: Mapping[str, float] = field(default_factory=dict)
    moved: float | None = None
    examples: tuple[dict[str, Any], ...] = ()

    @property
    def worst(self) -> tuple[str, Changed] | None:
        """The column and the group that loses most; None if there is no group."""
        found = [(column, group) for column, groups in self.groups.items() for group in groups]
        return max(found, key=lambda item: item[1].loss.value, default=None)

    def section(self) -> AuditDetails:
        """Return it for a receipt."""
        worst = self.worst
        return AuditDetails(
            metric=self.metric.name,
            whole=self.whole.section(),
            groups={
                name: tuple(item.section() for item in groups)
                for name, groups in self.groups.items()
            },
            worst=None if worst is None else worst[1].section(worst[0]),
            moves=tuple(Moved(from_=old, to=new, rows=count) for old, new, count in self.moves),
            sizes=dict(self.sizes),
            moved=self.moved,
            examples=self.examples,
        )


def told(found: Estimate) -> Measured:
    """Return an estimate for a receipt: ends that are not known are None."""
    return Measured(
        value=found.value,
        low=finite_or_none(found.low),
        high=finite_or_none(found.high),
        level=found.level,
        interval=found.method,
    )


def behaviour_of(
    before: nn.Module,
    after: nn.Module,
    rows: Rows,
    config: BehaviourConfig | None = None,
    *,
    classes: Sequence[str] | None = None,
    batch_size: int = 64,
) -> Behaviour:
    """Run two models on the same rows, with a target each, and say what changed.

    Classes are named by their numbers if there are no names; None where numbers are predicted.
    Raises `InputError` if a column is not there, `ModelError` if the two answer in different
    shapes, `NumericalError` if an output is not finite.
    """
    config = config or BehaviourConfig()
    targets = torch.cat(over_batches(before, rows, targets_of, batch_size))
    outputs = [_outputs(model, rows, batch_size) for model in (before, after)]
    if outputs[0].shape != outputs[1].shape:
        raise ModelError(
            f"the models answer {tuple(outputs[0].shape)} and {tuple(outputs[1].shape)}",
            allowed="two models of one answer",
        )
    order = places_of(rows, len(targets))
    pair = BothAnswers(
        old=outputs[0][order], new=outputs[1][order], targets=targets[order], rows=rows,
        config=config, classes=None if classes is None else tuple(classes),
    )  # fmt: skip
    return pair.behaviour()


def _outputs(model: nn.Module, rows: Rows, batch_size: int) -> Float[Tensor, "n o"]:
    def run(batch: Batch) -> Tensor:
        return tensor_of(rows.forward(model, batch)).detach().cpu()

    found = torch.cat(over_batches(model, rows, run, batch_size)).flatten(1)
    bad = int((~found.isfinite()).any(1).sum())
    if bad:
        raise NumericalError(
            f"the outputs of {bad} of {len(found)} rows are not finite",
            next_step="check the model's weights",
        )
    return found


@dataclass(frozen=True, kw_only=True)
class BothAnswers:
    """Two models' answers to the same rows, and what is right; no classes where numbers are."""

    old: Float[Tensor, "n o"]
    new: Float[Tensor, "n o"]
    targets: Tensor
    rows: Rows
    config: BehaviourConfig
    classes: tuple[str, ...] | None

    def behaviour(self) -> Behaviour:
        """Say what changed, of all rows and of each group."""
        everything = torch.ones(len(self.old), dtype=torch.bool)
        named = self.groups()
        level = self.config.level
        # Each of k intervals at 1 − α/k: all of them together hold at 1 − α.
        apart = 1 - (1 - level) / max(1, sum(len(groups) for groups in named.values()))
        return Behaviour(
            metric=self.metric,
            whole=self.group("all", everything, level),
            groups={
                column: tuple(
                    sorted(
                        (self.group(name, part, apart) for name, part in groups.items()),
                        key=lambda item: -item.loss.value,
                    )
                )
                for column, groups in named.items()
            },
            moves=self.moves(),
            sizes=self.sizes(),
            moved=None if self.classes is not None else self.threshold,
            examples=self.examples(),
        )

    @property
    def metric(self) -> Metric:
        """What losses are told in."""
        return MEAN_ABSOLUTE_ERROR if self.classes is None else ACCURACY

    @property
    def threshold(self) -> float:
        """Change of a number that counts as another answer."""
        if self.config.moved is not None:
            return self.config.moved
        return _MOVED * float(self.old.double().std(correction=0))

    @property
    def changed(self) -> Bool[Tensor, "n"]:
        """Which rows got another answer."""
        if self.classes is not None:
            return self.old.argmax(1) != self.new.argmax(1)
        return (self.old.double() - self.new.double()).abs().amax(1) > self.threshold

    def errors(self, answers: Float[Tensor, "n o"]) -> Float64[Tensor, "n"]:
        """Return what the metric counts of each row."""
        if self.classes is not None:
            return (answers.argmax(1) == self.targets).double()
        wanted = self.targets.reshape(len(self.targets), -1).double()
        return (answers.double() - wanted).abs().mean(1)

    def group(self, name: str, part: Bool[Tensor, "n"], level: float) -> Changed:
        """Say what changed among some rows."""
        count, changed = int(part.sum()), self.changed[part]
        first, second = self.errors(self.old)[part], self.errors(self.new)[part]
        shares = self.classes is not None
        return Changed(
            name=name,
            changed=wilson(int(changed.sum()), count, level),
            broken=int((first > second).sum()) if shares else None,
            mended=int((first < second).sum()) if shares else None,
            before=float(first.mean()),
            loss=self._loss(first, second, level),
        )

    def _loss(
        self, first: Float64[Tensor, "n"], second: Float64[Tensor, "n"], level: float
    ) -> Estimate:
        if self.classes is None and len(first) < FEW:
            return Estimate(
                value=float((second - first).mean()), low=None, high=None, level=level,
                method=f"none, fewer than {FEW} rows", count=len(first),
            )  # fmt: skip
        old, new = Outcomes(numerator=first), Outcomes(numerator=second)
        found = compare_outcomes(old, new, self.metric, seed=self.config.seed, level=level)
        low, high = found.difference.low, found.difference.high
        if self.metric.higher_is_better and low is not None and high is not None:
            low, high = -high, -low
        return Estimate(
            value=found.loss, low=low, high=high, level=level, method=found.difference.method,
            count=len(first),
        )  # fmt: skip

    def groups(self) -> dict[str, dict[str, Bool[Tensor, "n"]]]:
        """Return which rows belong to each class, and to each value of each column."""
        columns: Mapping[str, Sequence[str]] = {}
        if isinstance(self.rows, Sequences):
            columns = self.rows.columns
        values: dict[str, Sequence[str]] = {}
        if self.classes is not None:
            values[CLASS] = [self.named(item) for item in self.targets.tolist()]
        for name in self.config.slices:
            if name not in columns:
                raise InputError(
                    f"the rows have no column {name!r}",
                    allowed=", ".join(columns) or "columns of a file of your own",
                )
            values[name] = columns[name]
        return {
            column: {
                value: torch.tensor([item == value for item in found])
                for value in dict.fromkeys(found)
            }
            for column, found in values.items()
        }

    def named(self, label: int) -> str:
        """Return the name of a class."""
        return self.classes[label] if self.classes else str(label)

    def moves(self) -> tuple[tuple[str, str, int], ...]:
        """Count which class became which."""
        if self.classes is None:
            return ()
        pairs = zip(self.old.argmax(1).tolist(), self.new.argmax(1).tolist(), strict=True)
        found = Counter(pair for pair in pairs if pair[0] != pair[1])
        return tuple(
            (self.named(old), self.named(new), count) for (old, new), count in found.most_common()
        )

    def sizes(self) -> dict[str, float]:
        """Return quantiles of how much numbers changed."""
        if self.classes is not None:
            return {}
        sizes = (self.old.double() - self.new.double()).abs().amax(1)
        return {f"{share:g}": float(sizes.quantile(share)) for share in _QUANTILES}

    def examples(self) -> tuple[dict[str, Any], ...]:
        """Name rows whose answer changed: those that became worse first, most first."""
        losses = self.errors(self.new) - self.errors(self.old)
        if self.metric.higher_is_better:
            losses = -losses
        places = self.changed.nonzero().flatten()
        order: Int64[Tensor, "k"] = places[losses[places].argsort(descending=True, stable=True)]
        return tuple(self._example(place) for place in order[: self.config.examples].tolist())

    def _example(self, place: int) -> dict[str, Any]:
        found: dict[str, Any] = {"row": place}
        if isinstance(self.rows, Sequences):
            found |= {name: values[place] for name, values in self.rows.columns.items()}
            if self.config.with_data:
                found["x"] = self.rows.x[place, : int(self.rows.lengths[place])].tolist()
        answers = (self.targets[place], self.old[place], self.new[place])
        if self.classes is None:
            told: list[Any] = [item.tolist() for item in answers]
        else:
            told = [self.named(int(item.argmax() if item.ndim else item)) for item in answers]
        return found | dict(zip(("target", "before", "after"), told, strict=True))
