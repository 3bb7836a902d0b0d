"""A saved model answers a file: the job behind ``ssmith predict``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import nn

from ssmith import api
from ssmith.core.checks import check_integer
from ssmith.core.directories import new_directory, refuse_existing
from ssmith.core.errors import InputError, UnsupportedError
from ssmith.core.findings import Finding
from ssmith.core.progress import Progress, silent
from ssmith.evaluation.wishes import DecisionConfig
from ssmith.families import preparation_of
from ssmith.jobs.outputs import refuse_own_input
from ssmith.jobs.source import reads_text, tokenizer_for
from ssmith.serving.answering import PredictConfig, Predictions, decide, predict
from ssmith.serving.attribution import Attribution, AttributionConfig, attribute
from ssmith.serving.columns import Column
from ssmith.serving.decision import Decision
from ssmith.serving.long import answer_long
from ssmith.serving.parts import KeptParts
from ssmith.serving.picture import draw, write_picture
from ssmith.serving.stepping import ModelStream, StreamConfig
from ssmith.serving.texts import answer_texts
from ssmith.serving.writing import check_suffix, table_of, write_tables

_MISSED = 0.05
"""Of what the steps of a row should add up to: gradients that miss more are told."""
_OF_TEXT = ("field", "generate")


@dataclass(frozen=True, kw_only=True)
class AnswerConfig:
    """How a saved model answers.

    Args:
        decide: thresholds and intervals.
        take_apart: how answers are taken apart.
        steps: how a stream is run.
        calibrate: labelled data whose validation split thresholds and intervals are fitted on; what
            was fitted at training if None.
        batch_size: rows per forward pass; 64 if None, of text 8.
        field: key or column of the text in records; ``text`` if None.
        generate: new tokens that a language model writes after each text; its perplexity if None.
        explain_rows: places of rows whose answers are taken apart, from 0.
    """

    decide: DecisionConfig = field(default_factory=DecisionConfig)
    take_apart: AttributionConfig = field(default_factory=AttributionConfig)
    steps: StreamConfig = field(default_factory=StreamConfig)
    calibrate: str | None = None
    batch_size: int | None = None
    field: str | None = None
    generate: int | None = None
    explain_rows: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        for name in ("batch_size", "generate"):
            if getattr(self, name) is not None:
                check_integer(name, getattr(self, name), at_least=1)
        for place in self.explain_rows:
            check_integer("explain_rows", place, at_least=0)


@dataclass(frozen=True, kw_only=True)
class AnswerPlaces:
    """Where a job reads and writes; without ``out`` answers are returned alone."""

    model: str
    data: str
    out: Path | None = None
    pictures: Path | None = None
    overwrite: bool = False


@dataclass(frozen=True, kw_only=True)
class Answered:
    """The answers, and what there is to say of them, JSON-ready."""

    columns: Mapping[str, Column]
    summary: dict[str, Any]


def answer(asked: AnswerPlaces, config: AnswerConfig, progress: Progress = silent) -> Answered:
    """Answer a file, and write the answers where they are wanted."""
    if asked.out is not None:
        check_suffix(asked.out)
        KeptParts(asked.out).sweep_finished()
    for place in (asked.out, asked.pictures):
        if place is not None:
            refuse_own_input(place, asked.model, asked.data)
            refuse_existing(place, overwrite=asked.overwrite)
    text = reads_text(asked.model)
    loaded = api.load(asked.model)
    if text:
        found = _texts(loaded, asked, config, progress)
    elif asked.out is not None and asked.pictures is None:
        _refuse_text(config)
        summary = answer_long(
            loaded, asked.data, asked.out, _predicting(config), overwrite=asked.overwrite,
            progress=progress,
        )  # fmt: skip
        found = Answered(columns={}, summary=summary)
    else:
        found = _rows(loaded, asked, config, progress)
    if asked.out is not None and found.columns:
        table = table_of(found.columns)
        write_tables(asked.out, [table.schema], [table])
    about = {"model": asked.model, "data": asked.data}
    about |= {"out": str(asked.out)} if asked.out is not None else {}
    return Answered(columns=found.columns, summary={**about, **found.summary})


def serve(
    model: str, config: AnswerConfig, state: Path | None = None
) -> tuple[ModelStream, Decision]:
    """Open a saved model for steps: the stream, gone on from its state, and what is said."""
    if reads_text(model):
        raise UnsupportedError(
            f"{model} is a language model, which answers texts",
            allowed="sequence models and models with a head",
            next_step="give --data TEXT, or ask `sm.stream` for logits of the next token",
        )
    loaded = api.load(model)
    stream = ModelStream(loaded, config.steps)
    if state is not None and state.exists():
        stream.restore(state)
    return stream, decide(loaded, _predicting(config))


def _rows(
    model: nn.Module, asked: AnswerPlaces, config: AnswerConfig, progress: Progress
) -> Answered:
    _refuse_text(config)
    found = predict(model, asked.data, _predicting(config), progress=progress)
    missed = () if asked.pictures is None else _explain(model, found, asked, config)
    told = replace(found, findings=(*found.findings, *missed))
    return Answered(columns=found.columns, summary=told.summary())


def _refuse_text(config: AnswerConfig) -> None:
    for name in _OF_TEXT:
        if getattr(config, name) is not None:
            raise InputError(f"{name} is for language models", next_step="leave it out")


def _texts(
    model: nn.Module, asked: AnswerPlaces, config: AnswerConfig, progress: Progress
) -> Answered:
    if config.decide != DecisionConfig() or config.calibrate is not None:
        raise InputError(
            "level, positive, recall, false_alarms or calibrate of a language model",
            allowed="field, generate and batch_size", next_step="leave them out",
        )  # fmt: skip
    if asked.pictures is not None:
        raise InputError("pictures of a language model's answers", allowed="models with a head")
    columns = answer_texts(
        model, tokenizer_for(model, asked.model), asked.data, field=config.field or "text",
        most=config.generate, batch_size=config.batch_size or 8, progress=progress,
    )  # fmt: skip
    return Answered(columns=columns, summary={"rows": len(columns["row"]), "findings": []})


def _predicting(config: AnswerConfig) -> PredictConfig:
    return PredictConfig(
        decide=config.decide, calibrate=config.calibrate, batch_size=config.batch_size or 64
    )


def _explain(
    model: nn.Module, found: Predictions, asked: AnswerPlaces, config: AnswerConfig
) -> tuple[Finding, ...]:
    """Write a picture and a table for each row that is asked for; return what these do not show."""
    assert asked.pictures is not None
    names, missed = _channel_names(model, found), list[Finding]()
    with new_directory(asked.pictures, overwrite=asked.overwrite) as scratch:
        for place in config.explain_rows:
            if place >= len(found):
                raise InputError(
                    f"explain_rows has {place}",
                    allowed=f"rows 0 to {len(found) - 1} of {asked.data}",
                )
            rows = found.rows.rows
            x = rows.x[place, : int(rows.lengths[place])]
            parts = attribute(model, x, config.take_apart)
            said = _output_name(found, parts.place)
            title = f"row {place}: what each step adds to {said}"
            plot = draw(parts, x, names=names, title=title, name=f"row-{place}")
            write_picture(scratch, plot)
            missed += _missed(parts, place)
    return tuple(missed)


def _missed(parts: Attribution, place: int) -> list[Finding]:
    """Return a finding where gradients at too few points do not add up."""
    whole = parts.output - parts.at_nothing
    if parts.config.method == "occlusion" or not abs(parts.gap) > _MISSED * abs(whole):
        return []
    message = (
        f"row {place}: gradients at {parts.config.points} points add up to "
        f"{whole + parts.gap:.3g}, and should to {whole:.3g}; give more with --explain-points"
    )
    return [Finding(layer="", kind="attribution", message=message)]


def _channel_names(model: nn.Module, found: Predictions) -> Sequence[str]:
    preparation = preparation_of(model)
    if preparation is not None:
        return preparation.names
    x = found.rows.rows.x
    return ["token"] if x.ndim == 2 else [f"channel {place}" for place in range(x.shape[2])]


def _output_name(found: Predictions, place: int) -> str:
    names = found.decision.answers.classes or found.decision.targets
    return names[place]
