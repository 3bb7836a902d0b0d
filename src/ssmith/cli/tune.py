"""``ssmith tune``: adapt a trained model to your data."""

from __future__ import annotations

import argparse
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from ssmith.cli import flags
from ssmith.cli.output import Output
from ssmith.cli.recipe import given_settings
from ssmith.core.errors import InputError
from ssmith.core.words import number_of

if TYPE_CHECKING:
    from ssmith.core.sections import Measured
    from ssmith.jobs.tuning import TuneConfig, Tuned

_JOB = (
    "methods",
    "rank",
    "alpha",
    "targets",
    "size",
    "data",
    "teacher",
    "distill_weight",
    "merge",
    "own_metric",
    "own_lower_is_better",
)
_TRAINING = (
    "rate",
    "steps",
    "epochs",
    "batch_size",
    "optimizer",
    "patience",
    "precision",
    "device",
    "seed",
)


def add(subparsers: flags.Subparsers) -> None:
    """Add the command."""
    command = flags.Command(
        subparsers,
        "tune",
        about="adapt a trained model to your data, and judge what it gained",
        example="ssmith tune embedded:digits-s5 --method state-offset-y --data embedded:power "
        "--out tuned",
        run=run,
        kept=kept,
    )
    command.model()
    command.out("directory for the adapter, or the merged model")
    command.add(
        "--checkpoints",
        "written at every look at the validation split; tuning goes on from it if it is there",
        kind=Path,
        metavar="DIR",
        in_recipe=False,
    )
    command.settings("ssmith.jobs.tuning.config:TuneConfig", _JOB, called={"methods": "method"})
    command.group("training")
    command.settings("ssmith.tune.training.config:TrainingConfig", _TRAINING, under="training")
    command.settings("ssmith.data:ExamplesConfig", ("length", "held_out"), under="examples")
    command.settings(
        "ssmith.evaluation.generation:GenerationConfig",
        ("beams",),
        under="generation",
        called={"beams": "generate"},
    )


def kept(arguments: argparse.Namespace) -> str:
    """Say what an interrupted tuning leaves."""
    if arguments.checkpoints is None or not arguments.checkpoints.exists():
        return "nothing was kept; with --checkpoints DIR a tuning can go on"
    return f"checkpoints are kept in {arguments.checkpoints}; run the same command again to go on"


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Tune, save and show what it gained."""
    from ssmith.core.directories import refuse_existing
    from ssmith.jobs.outputs import refuse_own_input
    from ssmith.jobs.tuning import fine_tune

    config = _config(arguments)
    refuse_own_input(arguments.out, arguments.model, config.data, config.teacher or "")
    refuse_existing(arguments.out, overwrite=arguments.overwrite)
    with output.progress() as progress:
        done = fine_tune(
            arguments.model,
            config,
            out=arguments.out,
            checkpoints=arguments.checkpoints,
            overwrite=arguments.overwrite,
            command=arguments.command_line,
            progress=progress,
        )
    _show(arguments, output, done)
    return 0


def _config(arguments: argparse.Namespace) -> TuneConfig:
    from ssmith.core.settings import from_mapping
    from ssmith.jobs.tuning import TuneConfig, methods_in

    names = [item.name for item in fields(TuneConfig)]
    content = given_settings(arguments, names, of="tuning")
    if "methods" not in content:
        # An adapter is trained on by the methods it has.
        content |= {"methods": known} if (known := methods_in(arguments.model)) else {}
    for key, flag, step in (
        ("methods", "method", "try state-offset-h on a language model, state-offset-y on others"),
        ("data", "data", "give your own file, or see `ssmith list` for named data"),
    ):
        if key not in content:
            allowed = f"--{flag}, or {key} in --recipe FILE"
            raise InputError(f"--{flag} is missing", allowed=allowed, next_step=step)
    if isinstance(content["methods"], str):
        content["methods"] = content["methods"].split(",")
    return from_mapping(TuneConfig, content, where="tune")


def _show(arguments: argparse.Namespace, output: Output, done: Tuned) -> None:
    training, quality = done.training, done.quality
    output.result({"adapter": str(arguments.out), "receipt": done.receipt.as_dict()})
    if done.start is not None:
        output.line(f"trained on from the adapter {done.start['path']}")
    for line in str(done.report).splitlines():
        output.line(line)
    if done.choice is not None:
        tried = ", ".join(trial.method for trial in done.choice.trials)
        output.line(
            f"chosen: {done.choice.method}, by {done.choice.steps} steps of trials ({tried})"
        )
    for group, rate in done.rates.items():
        output.line(f"rate of {group}: {rate.value:g} with {rate.optimizer} ({rate.source})")
    cut = done.data.details.get("cut")
    if cut:
        output.line("cut: " + ", ".join(f"{name} {count}" for name, count in cut.items()))
    stopped = ", stopped early" if training.stopped_early else ""
    own = done.config.own()
    by = "" if own is None else f", by {own.said}"
    output.line(f"best step {training.best_step} of {training.steps}{stopped}{by}")
    if quality.why_null:
        output.line(f"not judged: {quality.why_null}")
    else:
        rows = [
            (name, _cell(found.before), _cell(found.after), _cell(found.difference))
            for name, found in quality.measures.items()
        ]
        rows_judged = f"test, {number_of(quality.count or 0, 'row')}"
        output.table((rows_judged, "before", "after", "difference"), rows)
    output.findings(done.receipt.findings)
    answers = quality.answers
    if answers is not None:
        shown = ", ".join(f"{name} {value:.2f}" for name, value in answers.metrics.items())
        unread = answers.unparsable
        more = "" if unread is None else f"; {unread} unreadable, counted as wrong"
        output.line(f"answers to {number_of(answers.count, 'test prompt')}: {shown}{more}")
    merged = done.merged
    if merged is None:
        output.line(f"adapter: {arguments.out}")
        return
    held = f", {len(merged.held)} offsets held beside them" if merged.held else ""
    change = merged.difference
    by = "" if change is None else f"; an output changed by at most {change:.1e}"
    output.line(f"merged into {len(merged.merged)} tensors{held}{by}")
    output.line(f"model: {arguments.out}")


def _cell(found: Measured | None) -> str:
    if found is None:
        return "–"
    low, high = found.low, found.high
    between = "" if low is None or high is None else f" [{low:.4f}, {high:.4f}]"
    return f"{found.value:.4f}{between}"
