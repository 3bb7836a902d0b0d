"""A model in service: one step of one or many sources at a time, with a state for each source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from ssmith.core.checks import check_choice, check_integer
from ssmith.core.errors import DataError, InputError, UnsupportedError
from ssmith.core.running import evaluating
from ssmith.core.trees import dtype_of, place_of
from ssmith.families import (
    SequenceModel,
    TaskModel,
    answers_of,
    model_digest,
    preparation_of,
    vocabulary_of,
)
from ssmith.families.steps import State, steps_of
from ssmith.serving.foretold import Foretold
from ssmith.serving.saved import SavedStream, read_stream, write_stream

Missing = Literal["hold", "skip", "refuse"]
ONE = "source"
"""Name of the source where only one is stepped."""
_VALUES, _KNOWN, _STEPS, _TIME = "values", "known", "steps", "time"


@dataclass(frozen=True, kw_only=True)
class StreamConfig:
    """How a stream is run.

    Args:
        missing: what is done where a step lacks values: ``hold`` the last one of the same channel,
            ``skip`` the step as if it had not been, or ``refuse`` it.
        window: a source starts anew after this many steps; None: after those of the windows that
            the model was trained on, if it answers by their mean, else never.

    Raises:
        InputError: if a setting is out of its domain.
    """

    missing: Missing = "hold"
    window: int | None = None

    def __post_init__(self) -> None:
        check_choice("missing", self.missing, ("hold", "skip", "refuse"))
        if self.window is not None:
            check_integer("window", self.window, at_least=1)


@dataclass(frozen=True, kw_only=True)
class StepAnswers:
    """What a model says after one more step of some sources.

    Args:
        sources: in the order they were given.
        outputs: of the model, over all steps so far; NaN where no step was taken.
        taken: where a step was taken. None is while a channel has had no value yet, nor where it
            was skipped.
        held: values that were missing, and the last one before them stands in their place.
        steps: taken so far, since the source began or began anew.
        scores: of models that find anomalies, how far what has come is from what was forecast,
            in spreads of the training rows; NaN until that far back was forecast.
    """

    sources: tuple[str, ...]
    outputs: Float[Tensor, "b o"]
    taken: Bool[Tensor, "b"]
    held: Bool[Tensor, "b c"]
    steps: Int64[Tensor, "b"]
    scores: Float[Tensor, "b"] | None = None


class ModelStream:
    """Sources that are stepped through a model (see `stream`)."""

    def __init__(self, model: nn.Module, config: StreamConfig | None = None) -> None:
        self.model = model
        self.preparation = preparation = preparation_of(model)
        given = StreamConfig() if config is None else config
        window = given.window
        if window is None and preparation is not None and _answers_by_mean(model):
            window = preparation.config.window
        if preparation is not None and preparation.config.step is not None:
            raise UnsupportedError(
                f"the model reads one step every {preparation.config.step:g}, resampled",
                allowed="models of steps as they come",
                next_step="train without --step, or predict whole recordings",
            )
        self.config = StreamConfig(missing=given.missing, window=window)
        finds = preparation is not None and preparation.task == "anomaly"
        self._foretold = Foretold(preparation) if preparation is not None and finds else None
        answers = answers_of(model)
        self.channels = answers.channels if answers is not None else None
        self._vocabulary = vocabulary_of(model) if answers is None else answers.vocabulary
        self._slots: dict[str, int] = {}
        self._own = self._blank(0)
        with evaluating(model):
            self._steps = steps_of(model)
            # What a state is made of is known from a step that counts for nobody.
            example = self._steps.first(self._zeros(1))[1]
        self._state: State = {name: value[:0] for name, value in example.items()}

    @property
    def reads_intervals(self) -> bool:
        """Whether the model reads how long each step lasted."""
        prepared = self.preparation
        return prepared is not None and prepared.config.intervals == "measured"

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of all sources, in order of their first step."""
        return tuple(self._slots)

    def step(
        self, values: Any, sources: Sequence[str] | None = None, times: Any = None
    ) -> StepAnswers:
        """Take one step.

        Args:
            values: of one source its channels (c,), or its token; of several (b, c), or (b,)
                tokens. Plain units: a model that was trained on recordings scales them.
                NaN where a value is missing.
            sources: whose steps these are, each at most once; None for a single one.
            times: of the steps, in units of the training's; asked of a model that reads how long
                steps last, in place of that channel.

        Returns:
            The answers, in the same order.

        Raises:
            DataError: if a value is none the model reads, or one is missing and to be refused; no
                source has taken a step then.
            InputError: if sources are named twice, or not as many as there are steps.
        """
        values, late = self._with_widths(values, sources, times)
        x = self._read(values, single=sources is None)
        names = (ONE,) if sources is None else tuple(map(str, sources))
        if len(names) != len(x) or len(set(names)) != len(names):
            raise InputError(
                f"{len(x)} steps of {len(set(names))} different sources among {len(names)}",
                allowed="one step for each source, each source once",
            )
        x, held, ready = self._filled(x, names)
        index = self._index(names)
        if late is not None:
            # A step that is left out lasts on in the next one.
            taken = index[ready]
            self._own[_TIME][taken] = late[ready]
        return self._take(x, names, index, held, ready)

    def forget(self, sources: Sequence[str]) -> None:
        """Let sources begin anew at their next step; others keep their state."""
        known = [self._slots[name] for name in sources if name in self._slots]
        for tensor in self._own.values():
            tensor[known] = 0

    def save(self, path: str | Path) -> None:
        """Write the state of all sources into one file, whole or not at all.

        Args:
            path: the file; replaced if it is there.

        Raises:
            ArtefactError: if the disk refuses.
        """
        rows = torch.arange(len(self._slots))
        tensors = {name: held[rows].cpu() for name, held in {**self._state, **self._own}.items()}
        write_stream(Path(path), SavedStream(
            model=model_digest(self.model), sources=self.sources, missing=self.config.missing,
            window=self.config.window, tensors=tensors,
        ))  # fmt: skip

    def restore(self, path: str | Path) -> None:
        """Go on from a saved state, in place of all that was.

        Args:
            path: what `save` wrote.

        Raises:
            ArtefactError: if it is damaged, or of another model or other settings.
        """
        like = {
            name: (value.dtype, tuple(value.shape[1:]))
            for name, value in {**self._state, **self._own}.items()
        }
        saved = read_stream(
            Path(path), like, model=model_digest(self.model), missing=self.config.missing,
            window=self.config.window,
        )  # fmt: skip
        device = place_of(self.model)
        tensors = {name: value.to(device) for name, value in saved.tensors.items()}
        self._slots = {name: place for place, name in enumerate(saved.sources)}
        self._own = {name: tensors.pop(name) for name in self._blank(0)}
        self._state = tensors

    def _read(self, values: Any, *, single: bool) -> Tensor:
        """Return values as the model reads them, gaps as NaN."""
        tokens = self.channels is None
        try:
            x = torch.as_tensor(values)
        except (TypeError, ValueError, RuntimeError) as error:
            raise DataError(f"a step is {values!r:.200}", allowed=self._wanted()) from error
        if tokens and x.is_floating_point():
            raise DataError(f"a step is {values!r:.200}", allowed=self._wanted())
        x = (x[None] if single else x).to(torch.int64 if tokens else torch.float64)
        shape = () if tokens else (self.channels,)
        if x.shape[1:] != shape or x.ndim == 0:
            raise DataError(
                f"steps of shape {tuple(x.shape[1:])}", allowed=self._wanted(),
                next_step="check the number and the order of the channels",
            )  # fmt: skip
        if tokens:
            if bool(((x < 0) | (x >= (self._vocabulary or 0))).any()):
                raise DataError(f"tokens {x.tolist()[:8]}", allowed=self._wanted())
            return x.to(place_of(self.model))
        if self.preparation is not None:
            gone = torch.isin(x, torch.tensor(self.preparation.config.missing, dtype=x.dtype))
            x = torch.from_numpy(self.preparation.scaled(x.masked_fill(gone, torch.nan).numpy()))
        return x.to(place_of(self.model), dtype_of(self.model))

    def _with_widths(
        self, values: Any, sources: Sequence[str] | None, times: Any
    ) -> tuple[Any, Tensor | None]:
        """Return values with the time since the step before as a last channel, and the times."""
        if not self.reads_intervals:
            return values, None
        single = sources is None
        given = np.atleast_1d(np.asarray(np.nan if times is None else times, dtype=np.float64))
        rows = np.asarray(values, dtype=np.float64)
        rows = rows[None] if single else rows
        if rows.ndim != 2 or len(given) != len(rows) or not np.isfinite(given).all():
            raise DataError(
                f"times are {times!r:.50}", allowed="a time for each step, in the units of the "
                "recordings that the model was trained on",
            )  # fmt: skip
        names = [ONE] if sources is None else [*map(str, sources)]
        widths = np.full(len(rows), np.nan)
        for row, name in enumerate(names[: len(rows)]):
            slot = self._slots.get(name)
            if slot is not None and int(self._own[_STEPS][slot]):
                widths[row] = given[row] - float(self._own[_TIME][slot])
        if (widths < 0).any():
            row = int((widths < 0).argmax())
            raise DataError(
                f"{names[row]} is at {given[row]:g}, before its last step",
                allowed="steps in order of time",
            )
        made = np.column_stack([rows, widths])
        return made[0] if single else made, torch.from_numpy(given)

    def _wanted(self) -> str:
        if self.channels is None:
            return f"one token a step, 0 to {(self._vocabulary or 0) - 1}"
        names = "" if self.preparation is None else f": {', '.join(self.preparation.names)}"
        return f"{self.channels} numbers a step{names}"

    def _filled(self, x: Tensor, names: tuple[str, ...]) -> tuple[Tensor, Tensor, Tensor]:
        """Return values without gaps, which of them are held, and which rows take a step.

        Nothing of the stream has changed where a step is refused.
        """
        if not x.is_floating_point():
            return x, x.new_zeros(len(x), 0, dtype=torch.bool), x.new_ones(len(x)).bool()
        gap = ~x.isfinite()
        if self.config.missing == "refuse" and bool(gap.any()):
            row, channel = gap.nonzero()[0].tolist()
            raise DataError(
                f"channel {self._name(channel)} of {names[row]} is missing or not finite",
                allowed="a finite number for every channel, by missing='refuse'",
            )
        index = self._index(names)
        if self.config.missing == "skip":
            return x, torch.zeros_like(gap), ~gap.any(1)
        x = torch.where(gap, self._own[_VALUES][index].to(x.dtype), x)
        known = self._own[_KNOWN][index] | ~gap
        self._own[_VALUES][index] = x
        self._own[_KNOWN][index] = known
        return x, gap & known, known.all(1)

    def _name(self, channel: int) -> str:
        return str(channel) if self.preparation is None else self.preparation.names[channel]

    def _index(self, names: tuple[str, ...]) -> Tensor:
        """Return the row of each source; new ones get one."""
        for name in names:
            self._slots.setdefault(name, len(self._slots))
        count, room = len(self._slots), len(self._own[_STEPS])
        if count > room:
            # Twice as many at a time, so that a thousand new sources copy their states ten times.
            more = max(count, 2 * room) - room
            self._own = _longer(self._own, more)
            self._state = _longer(self._state, more)
        return torch.tensor([self._slots[name] for name in names], device=place_of(self.model))

    def _take(
        self, x: Tensor, names: tuple[str, ...], index: Tensor, held: Tensor, ready: Tensor
    ) -> StepAnswers:
        done = self._own[_STEPS][index]
        if self.config.window is not None:
            done = done.masked_fill(done == self.config.window, 0)
        outputs: Tensor | None = None
        scores: Tensor | None = None
        with evaluating(self.model):
            for begins in (True, False):
                rows = (ready & ((done == 0) == begins)).nonzero().flatten()
                if not len(rows):
                    continue
                out = self._step_rows(x[rows], index[rows], begins=begins)
                if outputs is None:
                    outputs = out.new_full((len(x), out.shape[1]), torch.nan)
                outputs[rows] = out
        if self._foretold is not None:
            scores = torch.full((len(x),), torch.nan, dtype=torch.float64)
            if outputs is not None:
                given = (index[ready], done[ready], x[ready], outputs[ready])
                scores[ready.cpu()] = self._foretold.scored(self._own, *given)
        done = done + ready
        self._own[_STEPS][index] = done
        width = 0 if outputs is None else outputs.shape[1]
        blank = torch.full((len(x), width), torch.nan)
        return StepAnswers(
            sources=names, outputs=blank if outputs is None else outputs.cpu(), taken=ready.cpu(),
            held=held.cpu(), steps=done.cpu(), scores=scores,
        )  # fmt: skip

    def _step_rows(self, x: Tensor, index: Tensor, *, begins: bool) -> Tensor:
        if begins:
            out, after = self._steps.first(x)
        elif len(index) == len(self._own[_STEPS]) and bool((index.diff() == 1).all()):
            # All sources in their own order: their states are taken and put back as they are.
            out, self._state = self._steps.next(x, self._state)
            return out
        else:
            before = {name: value[index] for name, value in self._state.items()}
            out, after = self._steps.next(x, before)
        for name, value in after.items():
            self._state[name][index] = value
        return out

    def _zeros(self, count: int) -> Tensor:
        if self.channels is None:
            return torch.zeros(count, dtype=torch.int64, device=place_of(self.model))
        shape = count, self.channels
        return torch.zeros(shape, dtype=dtype_of(self.model), device=place_of(self.model))

    def _blank(self, count: int) -> State:
        """Return what the stream itself keeps of sources before their first step."""
        device = place_of(self.model)
        found = {_STEPS: torch.zeros(count, dtype=torch.int64, device=device)}
        if self.channels is not None:
            found[_VALUES] = self._zeros(count)
            if self.reads_intervals:
                found[_TIME] = torch.zeros(count, dtype=torch.float64, device=device)
            if self._foretold is not None:
                found |= self._foretold.blank(count, found[_VALUES])
            found[_KNOWN] = torch.zeros(count, self.channels, dtype=torch.bool, device=device)
        return found


def stream(
    model: nn.Module,
    config: StreamConfig | None = None,
    *,
    state: str | Path | None = None,
) -> ModelStream:
    """Put a model into service, step by step.

    Each answer is over all steps of its source so far, and is what the model says to them as one
    sequence. A source is known by its name, from its first step on.

    Args:
        model: of S5 or S4D layers, Mamba or Mamba-2, with a head or (next-token logits) without;
            with adapters or without. Its weights must not change while it serves.
        config: what is done about gaps, and after how many steps sources begin anew.
        state: what `ModelStream.save` wrote, to go on from; a new stream if None.

    Returns:
        The stream.

    Raises:
        UnsupportedError: if the model needs the future (bidirectional), looks back at every step
            (attention), or is not known to have steps.
        ArtefactError: if the state is damaged or another model's.
    """
    found = ModelStream(model, config)
    if state is not None:
        found.restore(state)
    return found


def _answers_by_mean(model: nn.Module) -> bool:
    if isinstance(model, TaskModel):
        return model.head_config.pooling == "mean"
    return isinstance(model, SequenceModel) and model.config.pooling == "mean"


def _longer(tensors: Mapping[str, Tensor], more: int) -> State:
    return {
        name: torch.cat([value, value.new_zeros(more, *value.shape[1:])])
        for name, value in tensors.items()
    }
