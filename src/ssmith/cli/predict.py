"""``ssmith predict``: what a model answers to new data, at once or line by line."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssmith.cli import flags
from ssmith.cli.output import Output, one_line
from ssmith.cli.recipe import config_of
from ssmith.core.errors import InputError
from ssmith.core.findings import findings_in

if TYPE_CHECKING:
    from ssmith.serving.job import AnswerConfig, Answered
    from ssmith.serving.lines import LineServer

_SHOWN = 20
"""Answers that are printed where they go to no file."""
_OF_TAKING_APART = {"method": "explain_method", "baseline": "explain_baseline",
                    "points": "explain_points", "width": "explain_width"}  # fmt: skip


def add(subparsers: flags.Subparsers) -> None:
    """Add the command."""
    command = flags.Command(
        subparsers,
        "predict",
        about="answer new data: labels with probabilities, numbers with intervals",
        example="ssmith predict embedded:power-s4d --data embedded:power --out predictions.csv",
        run=run,
        kept=kept,
    )
    command.model()
    command.add("--data", "new data of the kind the model was trained on, labelled or not; of "
                "embedded:NAME the test split; for language models text")  # fmt: skip
    command.add("--out", "file of the answers: .csv, .jsonl or .parquet; printed if None",
                kind=Path, in_recipe=False)  # fmt: skip
    command.switch("--overwrite", "replace what is there")
    command.settings(
        "ssmith.serving.job:AnswerConfig", but=("decide", "take_apart", "steps", "explain_rows")
    )
    command.settings("ssmith.evaluation.wishes:DecisionConfig", under="decide")
    command.group("what answers rest on")
    command.add("--explain", "directory for a picture and a table of each row that is taken apart",
                kind=Path, metavar="DIR", in_recipe=False)  # fmt: skip
    command.settings("ssmith.serving.job:AnswerConfig", ("explain_rows",))
    command.settings("ssmith.serving.attribution:AttributionConfig", under="take_apart",
                     called=_OF_TAKING_APART)  # fmt: skip
    command.group("line by line")
    command.switch("--stream", "answer lines of standard input as they come, each with a line of "
                   "JSON: a table under a header, or lines of JSON; one step a line")  # fmt: skip
    command.add("--state", "file of all sources' states: gone on from if it is there, written at "
                "the end", kind=Path, in_recipe=False)  # fmt: skip
    command.settings("ssmith.serving.stepping:StreamConfig", under="steps")


def kept(arguments: argparse.Namespace) -> str:
    """Say what an interrupted run leaves."""
    if getattr(arguments, "state", None) is not None:
        return f"every line that was answered is in {arguments.state}"
    if getattr(arguments, "out", None) is not None:
        return "what was answered is kept beside the output: the same command goes on from there"
    return "nothing was written"


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Answer a file, or standard input line by line; exit 1 if a line was refused."""
    from ssmith.serving.attribution import AttributionConfig
    from ssmith.serving.job import AnswerConfig, AnswerPlaces, answer
    from ssmith.serving.stepping import StreamConfig

    config = config_of(AnswerConfig, arguments)
    if arguments.stream:
        return _stream(arguments, config, output)
    if config.steps != StreamConfig() or arguments.state is not None:
        raise InputError(
            "state, missing or window without a stream", next_step="leave them out, or add --stream"
        )
    if arguments.explain is None and (
        config.take_apart != AttributionConfig() or config.explain_rows != (0,)
    ):
        raise InputError(
            "explain_rows, or method, baseline, points or width of it, without --explain",
            next_step="add --explain DIR",
        )
    if arguments.data is None:
        raise InputError(
            "--data is missing", allowed=flags.DATA_HELP,
            next_step="name new data, or pipe lines into --stream",
        )  # fmt: skip
    asked = AnswerPlaces(
        model=arguments.model, data=arguments.data, out=arguments.out, pictures=arguments.explain,
        overwrite=arguments.overwrite,
    )  # fmt: skip
    with output.progress() as progress:
        found = answer(asked, config, progress)
    _show(found, arguments.out, output)
    return 0


def _show(found: Answered, out: Path | None, output: Output) -> None:
    summary = found.summary
    count = summary["rows"]
    document = dict(summary)
    if out is None:
        names = list(found.columns)
        rows = [_row(found, place) for place in range(count)]
        document["answers"] = rows
        output.table(names, [[row[name] for name in names] for row in rows[:_SHOWN]])
        if count > _SHOWN:
            output.line(f"… {count:,} answers in all; write them with --out predictions.csv")
    else:
        output.line(f"{count:,} answers: {out}")
    output.result(document)
    for line in _scored(summary.get("score", {})):
        output.line(line)
    output.findings(findings_in(summary))


def _row(found: Answered, place: int) -> dict[str, Any]:
    from ssmith.serving.writing import plain_row

    return plain_row({name: values[place] for name, values in found.columns.items()})


def _scored(score: dict[str, Any]) -> list[str]:
    """Return a score in words."""
    if not score:
        return []
    lines = [f"on {score['rows']:,} labelled rows:"]
    if "accuracy" in score:
        lines.append(f"accuracy {_interval(score['accuracy'])}")
    for name, item in score.get("classes", {}).items():
        parts = [
            f"{word} {_interval(item[key])}"
            for word, key in (("recall", "recall"), ("false alarms", "false_alarms"))
            if item[key] is not None
        ]
        lines.append(f"{name} ({item['rows']:,} rows): {', '.join(parts)}")
    for name, item in score.get("targets", {}).items():
        line = f"{name}: mean absolute error {item['mean_absolute_error']:.4g}"
        line += f", rmse {item['rmse']:.4g}"
        if "coverage" in item:
            line += f"; in its interval {_interval(item['coverage'])}"
            line += f", {item['promised']:g} was promised"
        lines.append(line)
    return lines


def _interval(item: dict[str, Any]) -> str:
    return f"{item['value']:.3f} ({item['low']:.3f} to {item['high']:.3f})"


def _stream(arguments: argparse.Namespace, config: AnswerConfig, output: Output) -> int:
    from ssmith.serving.job import serve
    from ssmith.serving.lines import LineServer, waiting

    for name in ("data", "out", "explain", "overwrite"):
        if getattr(arguments, name):
            raise InputError(
                f"--{name} with --stream", allowed="lines on standard input, answers on standard "
                "output", next_step="leave one of the two out",
            )  # fmt: skip
    stream, decision = serve(arguments.model, config, arguments.state)
    server = LineServer(stream=stream, decision=decision)
    try:
        for said in server.answers_to(waiting(sys.stdin)):
            if not output.quiet:
                print(json.dumps(said, ensure_ascii=False, allow_nan=False), flush=True)
    finally:
        # Interrupted as well, all lines that were answered are in the state.
        if arguments.state is not None:
            stream.save(arguments.state)
        _tell(server, output)
    return 1 if server.served.refused else 0


def _tell(server: LineServer, output: Output) -> None:
    served = vars(server.served)
    if not output.quiet:
        said = ", ".join(f"{value:,} {name}" for name, value in served.items())
        print(one_line(f"{said}; {len(server.stream.sources):,} sources"), file=sys.stderr)
