"""Two models on one stream of rows: both answer (shadow), or each unit has one of them (A/B)."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ssmith.core.checks import check_choice, check_integer, check_number
from ssmith.core.details import Ends, TrialDetails
from ssmith.core.errors import ArtefactError, DataError, InputError, UnsupportedError
from ssmith.core.sequences import Sequences
from ssmith.core.settings import to_mapping, typed
from ssmith.evaluation.intervals import wilson
from ssmith.evaluation.predict import predict
from ssmith.evaluation.sequential import Sequential, SequentialConfig
from ssmith.families import Answers, answers_of
from ssmith.trials.texts import NATS, TrialTexts, nats_per_token

MODES = ("shadow", "ab")
VERSION = 1
_NUMBER_AND_SUM = 2
_ANOTHER = "begin with another --state"


@dataclass(frozen=True, kw_only=True)
class LiveConfig:
    """How two models are compared on a stream.

    Args:
        mode: ``"shadow"`` (both answer each row) or ``"ab"`` (each unit has one of them).
        tolerance: largest loss per row that is accepted: of accuracy, of absolute error, or of
            text in nats per token.
        bound: largest error of a row that counts, larger ones count as it; needed for numbers and
            for text, there in nats per token.
        moved: change of a number that counts as disagreement; a twentieth of ``bound`` if None.
        unit: column whose value says to which machine or user a row belongs; each row for itself
            if None. A unit's mean is one observation.
        rows_per_unit: labelled rows of a unit that make its mean; later ones do not count, ≥ 1.
        share: of the units that have the new model (A/B), in (0, 1).
        key: of the draw by which a unit has its model.
        level: confidence of the decision, however often one looks.
        budget: most observations; none if None.

    Raises:
        InputError: if a value is outside its domain.
    """

    mode: str = "shadow"
    tolerance: float = 0.01
    bound: float | None = None
    moved: float | None = None
    unit: str | None = None
    rows_per_unit: int = 20
    share: float = 0.5
    key: str = "ssmith"
    level: float = 0.95
    budget: int | None = None

    def __post_init__(self) -> None:
        check_choice("mode", self.mode, MODES)
        check_integer("rows_per_unit", self.rows_per_unit, at_least=1)
        check_number("share", self.share, above=0.0, below=1.0)
        for name in ("bound", "moved"):
            if getattr(self, name) is not None:
                check_number(name, getattr(self, name), above=0.0)
        check_number("tolerance", self.tolerance, at_least=0.0)
        self.question(1.0)

    def question(self, bound: float) -> SequentialConfig:
        """Return what is asked of the mean of observations, which are shares of ``bound``."""
        widest = 1.0 if self.mode == "shadow" else max(1 / self.share, 1 / (1 - self.share))
        return SequentialConfig(
            tolerance=self.tolerance / bound, low=-widest, high=widest, level=self.level,
            budget=self.budget,
        )  # fmt: skip


def has_new(unit: str, key: str, share: float) -> bool:
    """Return whether a unit has the new model: the same unit always the same.

    By HMAC-SHA256 of its name, read as a number in [0, 1), below the share that has it.
    """
    digest = hmac.new(key.encode(), unit.encode(), hashlib.sha256).digest()
    return int.from_bytes(digest[:8], "big") / 2**64 < share


@dataclass(frozen=True, kw_only=True)
class _Waiting:
    """A row whose label has not come."""

    unit: str | None
    old: list[float]
    new: list[float]
    arm: Literal[0, 1]


@dataclass(frozen=True, kw_only=True)
class _State:
    """What `LiveTrial.as_dict` returns."""

    version: int
    config: LiveConfig
    test: dict[str, Any]
    counts: dict[str, int]
    waiting: dict[str, _Waiting]
    units: dict[str, list[float]]
    known: dict[str, int]
    offsets: dict[str, int]
    losses: list[float]

    def __post_init__(self) -> None:
        for name, held in (*self.units.items(), ("losses", self.losses)):
            if len(held) != _NUMBER_AND_SUM:
                raise InputError(f"{name} holds {len(held)} numbers", allowed="a number and a sum")
        for name, offset in self.offsets.items():
            check_integer(f"the offset of {name}", offset, at_least=0)


@dataclass(kw_only=True)
class LiveTrial:
    """Two models on a stream, with everything that is known so far.

    >>> trial = LiveTrial.of(old, new, LiveConfig(mode="ab", unit="machine"))
    >>> answer = trial.rows([{"id": "1", "machine": "m7", "x": [0.1, 0.2]}])
    >>> trial.rows([{"id": "1", "y": "winter"}])

    Args:
        models: the old and the new one.
        answers: what they read and answer.
        config: how they are compared.
        test: what is known of the loss.
        counts: rows, labelled ones, disagreements, rows of each model, duplicates, and so on.
        waiting: answers of rows whose label has not come, by id.
        units: of each unit, how many labelled rows and the sum of its observations.
        known: ids that were read from standard input.
        offsets: bytes of each source that are dealt with.
        losses: number and sum of all observed losses, which A/B is measured from.
        texts: how language models read rows; None of models of sequences.
    """

    models: tuple[nn.Module, nn.Module]
    answers: Answers
    config: LiveConfig
    test: Sequential
    counts: dict[str, int] = field(default_factory=dict)
    waiting: dict[str, dict[str, Any]] = field(default_factory=dict)
    units: dict[str, list[float]] = field(default_factory=dict)
    known: dict[str, int] = field(default_factory=dict)
    offsets: dict[str, int] = field(default_factory=dict)
    losses: list[float] = field(default_factory=lambda: [0.0, 0.0])
    texts: TrialTexts | None = None

    @staticmethod
    def of(old: nn.Module, new: nn.Module, config: LiveConfig | None = None) -> LiveTrial:
        """Begin a trial.

        Args:
            old: the model that is live.
            new: the one that may follow.
            config: how they are compared.

        Returns:
            The trial, before its first row.

        Raises:
            UnsupportedError: if they do not answer sequences, or read text, alike.
            InputError: if numbers or texts are predicted and there is no bound.
        """
        config = config or LiveConfig()
        answers, others = answers_of(old), answers_of(new)
        texts = TrialTexts.of(old, new)
        if texts is not None:
            # Of a text each model tells one number, nats per token, and the right one is 0.
            answers = others = NATS
        if answers is None or answers != others:
            raise UnsupportedError(
                "the models do not answer the same sequences alike",
                allowed="two models of series or tokens with one answer for a sequence, or two "
                "language models of one vocabulary",
            )
        if answers.task != "classification" and config.bound is None:
            raise InputError(
                "bound is missing",
                next_step="give the largest error that counts, of text in nats per token",
            )
        return LiveTrial(
            models=(old, new), answers=answers, config=config, texts=texts,
            test=Sequential(config=config.question(config.bound or 1.0)),
        )  # fmt: skip

    def rows(self, records: Sequence[Mapping[str, Any]]) -> list[list[float] | None]:
        """Take rows, labels, or rows with labels, in order.

        Args:
            records: each with ``x`` (a row), ``y`` (its label), or both; ``id`` where the label
                comes later; and the unit.

        Returns:
            What the model that answers says to each row; None for a label alone.

        Raises:
            DataError: if a record does not fit the models.
        """
        places = [place for place, record in enumerate(records) if "x" in record]
        said: list[list[float] | None] = [None] * len(records)
        fresh = {place: self._row(records[place]) for place in places}
        outputs = self._run([records[place] for place in places])
        for at, place in enumerate(places):
            fresh[place] |= {"old": outputs[0][at], "new": outputs[1][at]}
        for place, record in enumerate(records):
            if place in fresh:
                said[place] = self._answered(fresh[place])
            self._settle(record, fresh.get(place))
        return said

    def _row(self, record: Mapping[str, Any]) -> dict[str, Any]:
        config = self.config
        unit = record.get(config.unit) if config.unit else record.get("id")
        if unit is None and (config.unit or config.mode == "ab"):
            raise DataError(f"a row has no {config.unit or 'id'}", allowed="one in each row")
        return {"unit": None if unit is None else str(unit)}

    def _run(self, records: Sequence[Mapping[str, Any]]) -> list[list[list[float]]]:
        if not records:
            return [[], []]
        if self.texts is not None:
            windows = self.texts.windows([record["x"] for record in records])
            return [nats_per_token(model, windows) for model in self.models]
        part = _sequences(records, self.answers)
        return [predict(model, part).double().tolist() for model in self.models]

    def _answered(self, row: dict[str, Any]) -> list[float]:
        """Count a row, and return the answer that its client gets."""
        new = self.config.mode == "ab" and has_new(row["unit"], self.config.key, self.config.share)
        row["arm"] = int(new)
        self._count("rows")
        if self.config.mode == "ab":
            self._count("rows of the new model", int(new))
        else:
            self._count("disagreements", int(self._differ(row["old"], row["new"])))
        answer: list[float] = row["new" if new else "old"]
        return answer

    def _differ(self, old: list[float], new: list[float]) -> bool:
        if self.answers.task == "classification":
            return max(range(len(old)), key=old.__getitem__) != max(
                range(len(new)), key=new.__getitem__
            )
        least = self.config.moved or (self.config.bound or 1.0) / 20
        return max(abs(a - b) for a, b in zip(old, new, strict=True)) > least

    def _settle(self, record: Mapping[str, Any], row: dict[str, Any] | None) -> None:
        """Join a row with its label, whichever comes first."""
        if self.texts is not None and row is not None:
            # A text is its own label.
            record = {**record, "y": 0.0}
        if "y" not in record:
            if row is not None and "id" in record:
                name = str(record["id"])
                if name in self.waiting:
                    self._count("rows that lost their place to another one of their id")
                self.waiting[name] = row
            return
        if row is None:
            row = self.waiting.pop(str(record.get("id")), None)
            if row is None:
                self._count("labels of unknown rows")
                return
        self._count("labelled")
        self._observe(row, self._target(record))

    def _target(self, record: Mapping[str, Any]) -> list[float]:
        label, of = record["y"], f"label of {_called(record)}"
        if self.answers.task != "classification":
            flat = torch.as_tensor(label, dtype=torch.float64).flatten()
            if len(flat) != self.answers.outputs or not bool(flat.isfinite().all()):
                raise DataError(
                    f"{of}: {label!r}", allowed=f"{self.answers.outputs} finite numbers"
                )
            return [float(item) for item in flat]
        classes = self.answers.classes
        # Where classes are called by numbers, a number is a name: 1 may be that of the first.
        named = any(name.lstrip("-").isdecimal() for name in classes)
        index = classes.index(str(label)) if str(label) in classes else None if named else label
        if not isinstance(index, int) or not 0 <= index < self.answers.outputs:
            raise DataError(f"{of}: {label!r}", allowed=", ".join(classes) or "a class index")
        return [float(index)]

    def _error(self, answer: list[float], target: list[float]) -> float:
        """Return the error of an answer as a share of the largest that counts."""
        if self.answers.task == "classification":
            return float(max(range(len(answer)), key=answer.__getitem__) != int(target[0]))
        mean = sum(abs(a - b) for a, b in zip(answer, target, strict=True)) / len(answer)
        return min(mean / (self.config.bound or 1.0), 1.0)

    def _observe(self, row: dict[str, Any], target: list[float]) -> None:
        config = self.config
        if config.mode == "shadow":
            value = self._error(row["new"], target) - self._error(row["old"], target)
            extra = [value]
        else:
            loss = self._error(row["new" if row["arm"] else "old"], target)
            extra = [loss]
        unit = row["unit"] if config.unit else None
        if unit is not None:
            held = self.units.setdefault(unit, [0.0, 0.0])
            if held[0] >= config.rows_per_unit:
                self._count("labelled rows beyond their unit's")
                return
            held[0], held[1] = held[0] + 1, held[1] + extra[0]
            if held[0] < config.rows_per_unit:
                return
            extra = [held[1] / held[0]]
        self.test.observe([self._weighed(extra[0], row["arm"])])

    def _weighed(self, value: float, arm: int) -> float:
        """Return an observation whose mean is the difference of the two models' losses.

        Of A/B (loss − c) / share for the new model and −(loss − c) / (1 − share) for the old one,
        c the mean of the losses before, which may be anything that was known before.
        """
        if self.config.mode == "shadow":
            return value
        count, total = self.losses
        centre = total / count if count else 0.5
        self.losses = [count + 1, total + value]
        weight = 1 / self.config.share if arm else -1 / (1 - self.config.share)
        return (value - centre) * weight

    def _count(self, name: str, by: int = 1) -> None:
        self.counts[name] = self.counts.get(name, 0) + by

    def describe(self) -> TrialDetails:
        """Return how things stand, losses in the unit of the data."""
        scale, test = self.config.bound or 1.0, self.test
        rows, share = self.counts.get("rows", 0), None
        if self.config.mode == "shadow" and rows:
            share = wilson(self.counts.get("disagreements", 0), rows, self.config.level).section()
        low, high = test.interval
        return TrialDetails(
            decision=test.decision,
            decided_at=test.decided_at,
            count=test.count,
            mean=test.mean * scale if test.count else None,
            interval=Ends(low=low * scale, high=high * scale),
            level=test.config.level,
            tolerance=self.config.tolerance,
            budget=test.config.budget,
            method="betting, hedged (Waudby-Smith & Ramdas 2024)",
            observed="units" if self.config.unit else "rows",
            units=len(self.units),
            rows=rows,
            counts=dict(self.counts),
            waiting=len(self.waiting),
            disagreement=share,
        )

    def as_dict(self) -> dict[str, Any]:
        """Return all that is needed to go on later, as plain JSON."""
        return {
            "version": VERSION, "config": to_mapping(self.config), "test": self.test.as_dict(),
            "counts": self.counts, "waiting": self.waiting, "units": self.units,
            "known": self.known, "offsets": self.offsets, "losses": self.losses,
        }  # fmt: skip

    def resume(self, content: Mapping[str, Any]) -> None:
        """Go on where `as_dict` stopped.

        Raises `ArtefactError` if it is something else, or of other models or settings.
        """
        held = typed(_State, content, where="the state of a trial", next_step=_ANOTHER)
        if held.version != VERSION:
            raise ArtefactError(
                f"the state of a trial has version {held.version}", next_step=_ANOTHER
            )
        test = Sequential.from_dict(held.test)
        if held.config != self.config or test.config != self.test.config:
            raise ArtefactError(
                "the state is of a trial with other settings",
                next_step="give the same settings, or another --state",
            )
        sizes = {len(row.old) for row in held.waiting.values()}
        sizes |= {len(row.new) for row in held.waiting.values()}
        if sizes - {self.answers.outputs}:
            raise ArtefactError(
                f"the state of a trial holds answers of {max(sizes)} numbers",
                allowed=f"{self.answers.outputs}", next_step=_ANOTHER,
            )  # fmt: skip
        self.test = test
        self.waiting = {name: to_mapping(row) for name, row in held.waiting.items()}
        for name in ("counts", "units", "known", "offsets", "losses"):
            setattr(self, name, getattr(held, name))


def _called(record: Mapping[str, Any]) -> str:
    """Return how a record is named in what is said of it."""
    return f"row {str(record['id'])!r}" if "id" in record else "a row without id"


def _sequences(records: Sequence[Mapping[str, Any]], answers: Answers) -> Sequences:
    parts: list[Tensor] = []
    for record in records:
        try:
            part = torch.as_tensor(record["x"], dtype=torch.float64)
        except (TypeError, ValueError) as error:
            raise DataError(f"{_called(record)} is no series of numbers ({error})") from error
        if answers.vocabulary is not None:
            fits = part.ndim == 1 and bool(((part >= 0) & (part < answers.vocabulary)).all())
            allowed = f"token ids below {answers.vocabulary}"
        else:
            part = part[:, None] if part.ndim == 1 else part
            fits = part.ndim == 2 and part.shape[1] == answers.channels
            allowed = f"steps of {answers.channels} channels"
        if not fits or not len(part):
            raise DataError(f"{_called(record)} has shape {tuple(part.shape)}", allowed=allowed)
        if not bool(part.isfinite().all()):
            step = int((~part.isfinite()).flatten(1).any(1).nonzero()[0])
            raise DataError(f"{_called(record)} is not finite at step {step}", allowed="numbers")
        parts.append(part.long() if answers.vocabulary is not None else part.float())
    return Sequences(
        x=nn.utils.rnn.pad_sequence(parts, batch_first=True),
        lengths=torch.tensor([len(part) for part in parts]),
        y=torch.zeros(len(parts), dtype=torch.int64),
    )
