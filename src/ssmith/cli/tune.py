"""``ssmith tune``: adapt a trained model to your data."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssmith.cli import flags
from ssmith.cli.output import Output
from ssmith.core.errors import InputError
from ssmith.core.words import number_of

if TYPE_CHECKING:
    from ssmith.jobs.tuning import TuneConfig, Tuned

_TRAINING = ("rate", "steps", "epochs", "batch_size", "patience", "precision", "device", "seed")


def add(subparsers: flags.Subparsers) -> None:
    """Add the command."""
    parser = flags.command(
        subparsers,
        "tune",
        about="adapt a trained model to your data, and judge what it gained",
        example="ssmith tune embedded:digits-s5 --method state-offset-y --data embedded:power "
        "--out tuned",
        run=run,
    )
    flags.add_model(parser)
    parser.add_argument(
        "--method",
        default=argparse.SUPPRESS,
        metavar="NAMES",
        help="methods trained together, between commas, targets behind a colon: "
        "state-offset-h,lora:in_proj+out_proj (all are in `ssmith list`)",
    )
    parser.add_argument(
        "--data",
        default=argparse.SUPPRESS,
        help=".jsonl with prompt and completion, text, or text and label; embedded:NAME or series "
        "in .npz, .csv, .jsonl; or plain text: a file, a directory, stdlib:, pydoc:",
    )
    flags.add_out(parser, "directory for the adapter, or the merged model", required=True)
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="all settings as .json or .yaml; flags go before it",
    )
    parser.add_argument(
        "--checkpoints",
        type=Path,
        metavar="DIR",
        help="written at every look at the validation split; tuning goes on from it if it is there",
    )
    parser.add_argument(
        "--teacher",
        default=argparse.SUPPRESS,
        metavar="DENSE",
        help="dense model whose predictions a pruned one learns",
    )
    parser.add_argument(
        "--length",
        type=flags.whole,
        default=argparse.SUPPRESS,
        metavar="N",
        help="most tokens of a row (default: 512)",
    )
    parser.add_argument(
        "--held-out",
        type=flags.whole,
        default=argparse.SUPPRESS,
        metavar="N",
        help="most rows of the validation and of the test split, evenly spread (default: all)",
    )
    parser.add_argument(
        "--generate",
        type=flags.whole,
        default=argparse.SUPPRESS,
        metavar="BEAMS",
        help="write answers to the test prompts and judge them; 1 is greedy",
    )
    parser.add_argument(
        "--merge",
        default=argparse.SUPPRESS,
        metavar="WHO",
        help="leave a model, not an adapter: stock (what was trained goes into the weights, what "
        "cannot is refused) or ssmith (it may hold state offsets as well, for ssmith alone)",
    )
    _add_training(parser)
    parser.set_defaults(kept=kept)


def _add_training(parser: argparse.ArgumentParser) -> None:
    rows: tuple[tuple[str, Any, str, str], ...] = (
        ("--rate", flags.number, "R", "learning rate of everything (default: published ones)"),
        ("--steps", flags.whole, "N", "optimiser steps"),
        ("--epochs", flags.number, "N", "passes over the training split (default: 10)"),
        ("--batch-size", flags.whole, "N", "sequences per step and process (default: 4)"),
        ("--patience", flags.whole, "N", "looks without a better one before it stops"),
        ("--precision", str, "NAME", "float32, or bfloat16 over float32 masters"),
        ("--device", str, "NAME", "cpu or cuda (default: cpu)"),
        ("--seed", flags.whole, "N", "seed of everything random (default: 0)"),
    )
    for name, kind, metavar, text in rows:
        parser.add_argument(name, type=kind, metavar=metavar, help=text, default=argparse.SUPPRESS)


def kept(arguments: argparse.Namespace) -> str:
    """Say what an interrupted tuning leaves."""
    if arguments.checkpoints is None or not arguments.checkpoints.exists():
        return "nothing was kept; with --checkpoints DIR a tuning can go on"
    return f"checkpoints are kept in {arguments.checkpoints}; run the same command again to go on"


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Tune, save and show what it gained."""
    from ssmith.core.files import refuse_existing
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
    """Return the settings of the file, with the flags that were given in their place."""
    from ssmith.core.settings import from_mapping, read_settings
    from ssmith.jobs.tuning import TuneConfig

    given = vars(arguments)
    content = read_settings(arguments.config) if arguments.config is not None else {}
    names = {"method": "methods", "data": "data", "teacher": "teacher", "merge": "merge"}
    content |= {names[flag]: given[flag] for flag in names if flag in given}
    for key, flag, step in (
        ("methods", "method", "try state-offset-h on a language model, state-offset-y on others"),
        ("data", "data", "give your own file, or see `ssmith list` for named data"),
    ):
        if key not in content:
            allowed = f"--{flag}, or {key} in --config FILE"
            raise InputError(f"--{flag} is missing", allowed=allowed, next_step=step)
    training = {name: given[name] for name in _TRAINING if name in given}
    for name, more in (
        ("training", training),
        ("examples", {name: given[name] for name in ("length", "held_out") if name in given}),
        ("generation", {"beams": given["generate"]} if "generate" in given else {}),
    ):
        if more:
            before = content.get(name) or {}
            content[name] = {**before, **more} if isinstance(before, dict) else before
    if isinstance(content["methods"], str):
        content["methods"] = content["methods"].split(",")
    return from_mapping(TuneConfig, content, where="settings")


def _show(arguments: argparse.Namespace, output: Output, done: Tuned) -> None:
    from ssmith.jobs.tuning import is_main_process

    if not is_main_process():
        return
    training, quality = done.training, done.receipt.quality
    output.result({"adapter": str(arguments.out), "receipt": done.receipt.as_dict()})
    for line in str(done.report).splitlines():
        output.line(line)
    for group, rate in done.rates.items():
        output.line(f"rate of {group}: {rate['value']:g} ({rate['source']})")
    cut = done.receipt.data.get("details", {}).get("cut")
    if cut:
        output.line("cut: " + ", ".join(f"{name} {count}" for name, count in cut.items()))
    stopped = ", stopped early" if training.stopped_early else ""
    output.line(f"best step {training.best_step} of {training.steps}{stopped}")
    if "why_null" in quality:
        output.line(f"not judged: {quality['why_null']}")
    else:
        rows = []
        for name, found in quality.items():
            if isinstance(found, dict) and "after" in found:
                rows.append(
                    (name, *(_cell(found.get(k)) for k in ("before", "after", "difference")))
                )
        rows_judged = f"test, {number_of(quality['count'], 'row')}"
        output.table((rows_judged, "before", "after", "difference"), rows)
    answers = quality.get("answers")
    if answers:
        shown = ", ".join(f"{name} {value:.2f}" for name, value in answers["metrics"].items())
        unread = answers["unparsable"]
        more = "" if unread is None else f"; {unread} unreadable, counted as wrong"
        output.line(f"answers to {number_of(answers['count'], 'test prompt')}: {shown}{more}")
    merged = done.receipt.details["merge"]
    if merged is None:
        output.line(f"adapter: {arguments.out}")
        return
    held = f", {len(merged['held'])} offsets held beside them" if merged["held"] else ""
    change = merged["difference"]
    by = "" if change is None else f"; an output changed by at most {change:.1e}"
    output.line(f"merged into {len(merged['merged'])} tensors{held}{by}")
    output.line(f"model: {arguments.out}")


def _cell(found: dict[str, float] | None) -> str:
    if found is None:
        return "–"
    return f"{found['value']:.4f} [{found['low']:.4f}, {found['high']:.4f}]"
